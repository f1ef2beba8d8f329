"""Golden frames: one message of each kind, and the bytes that protocol 1 has for it.

`python tests/golden.py` writes them anew. A frame that changes is another protocol: raise PROTOCOL first.
"""

from pathlib import Path

from fedmq import codec
from fedmq.messages import (
    Bye,
    Code,
    Hello,
    Message,
    Model,
    Ping,
    Pong,
    Ready,
    Refuse,
    Report,
    Task,
    Update,
    Verdict,
    Welcome,
)

FOLDER = Path(__file__).parent / "frames"
VERDICT = Verdict(
    session=7, seq=3, code=Code.TOO_STALE, text="trained from version 3, now 41, limit 20 behind", staleness=38
)
MESSAGES: dict[str, Message] = {
    "hello": Hello(
        session=2**64 - 1,
        federation="pacs",
        name="edge-7",
        feature_space="c0ffee" * 8,
        dim=512,
        methods=("fedclip",),
        codecs=("fp32", "fp16", "int8"),
        version=40,
        proof=bytes(range(16)),
        software="fedmq 0.1.0",
    ),
    "hello-new": Hello(session=1, federation="", name="", feature_space="", dim=0, methods=(), codecs=()),
    "welcome": Welcome(
        session=7,
        version=41,
        seq=3,
        verdict=VERDICT,
        heartbeat_s=2.0,
        up="int8",
        task={"method": "fedclip", "lr": 5e-5, "labels": ("dog", "žába"), "nested": {"deep": None, "on": True}},
        schema=(("gate.0.weight", (2, 3)), ("gate.0.bias", (2,)), ("scale", ())),
        evaluate_every=5,
        trained=40,
        disowned=42,
        arrays=bytes(range(16)),
    ),
    "welcome-new": Welcome(
        session=7, version=0, seq=0, verdict=None, heartbeat_s=0.5, up="fp32", task={}, schema=(("w", (1,)),)
    ),
    "refuse": Refuse(session=7, reason="adapter_shape", text="the node's features have 512 dimensions, not 768"),
    "ready": Ready(session=7, examples=1_336, tests=334),
    "model": Model(version=41, since=-1, codec="fp32", payload=b"\x00\x00\x80\x3f" * 9),
    "model-since": Model(version=41, since=40, codec="int8", digest=bytes(range(16)), payload=b"\x7f" * 11),
    "task": Task(version=41),
    "update": Update(
        session=7,
        seq=4,
        base_version=40,
        codec="int8",
        examples=512,
        steps=16,
        loss=0.75,
        train_s=1.25,
        payload=bytes(range(40)),
    ),
    "update-empty": Update(session=7, seq=4, base_version=40, codec="fp32", examples=1),
    "verdict": VERDICT,
    "report": Report(session=7, version=41, examples=334, correct=290, loss=0.5),
    "report-frozen": Report(session=7, version=None, examples=334, correct=166),
    "report-personal": Report(session=7, version=41, examples=334, correct=290, loss=0.5, personal=301),
    "ping": Ping(session=7, version=41, activity="training", done=3, total=16),
    "pong": Pong(session=7, version=41),
    "bye": Bye(session=7, reason="finished", version=50),
}


def path(name: str) -> Path:
    return FOLDER / f"{name}.fmq"


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, message in MESSAGES.items():
        path(name).write_bytes(b"".join(codec.encode(message)))


if __name__ == "__main__":
    write()
