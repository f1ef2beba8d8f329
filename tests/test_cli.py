"""The command line as a person meets it: help, wrong arguments, exit codes."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedmq import cli, observe
from fedmq.compress import CODECS
from toy import bundle, features

COMMANDS = (
    ["serve"], ["join"], ["up"], ["demo"], ["status"], ["watch"], ["log"], ["report"], ["eval"],
    ["classify"], ["export-adapted"],
    ["replay"], ["broker-config"], ["provision"], ["doctor"],
    ["bundle", "make"], ["bundle", "from-onnx"], ["bundle", "from-features"], ["bundle", "show"], ["bundle", "verify"],
    ["keys", "new"], ["keys", "enrol"], ["keys", "list"], ["keys", "revoke"],
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in a folder of its own, with a cache of its own, on a terminal of a known width."""
    # The commands configure logging for this process, which lives on after them here.
    monkeypatch.setattr(observe, "configure", lambda _level: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command as the console script does, in this process, and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["fedmq", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    return code if isinstance(code, int) else int(code is not None)


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    program = (
        "import sys; from fedmq import cli; sys.argv = ['fedmq', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'numpy', 'onnxruntime', 'zmq', 'pydantic', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    assert [name for name, *_ in COMMANDS if f" {name} " not in done.stdout] == []


def test_help_shows_the_names_of_tables_in_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets are markup to what prints the help."""
    assert run(monkeypatch, "up", "--help") == 0
    assert "[federation], [defaults] and [[nodes]]" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *command, "--help") == 0
    shown = capsys.readouterr().out
    assert f"fedmq {' '.join(command)}" in shown[shown.index("Example") :]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["sevre"], 2, "No such command 'sevre'"),
        (["join"], 2, "Missing argument"),
        (["join", "tcp://127.0.0.1:1"], 2, "neither of data and features"),
        (["join", "tcp://127.0.0.1:1", "--data", "d", "--test-share", "7"], 2, "test_share is 7.0"),
        (["join", "tcp://127.0.0.1:1", "--data", "d", "--name", "a b"], 2, "name is 'a b'"),
        (["join", "tcp://10.1.2.3:1", "--data", "d"], 2, "is not on this machine"),
        (["join", "nonsense", "--data", "d", "--insecure"], 5, "an address looks like tcp://"),
        (["join", "tcp://127.0.0.1:1", "--data", "d", "--bundle", "nowhere"], 3, "nowhere is no bundle"),
        (["join", "tcp://127.0.0.1:1", "--data", "d"], 3, "d is not a folder; --data takes one"),
        (["join", "tcp://127.0.0.1:1", "--features", "f.npz"], 3, "f.npz is not a file"),
        (["serve", "missing.toml"], 2, "missing.toml cannot be read: No such file"),
        (["up", "missing.toml"], 2, "missing.toml cannot be read"),
        (["status", "nowhere"], 5, "no aggregator is running in nowhere"),
        (["report", "nowhere"], 3, "there is no ledger at nowhere"),
        (["eval", "nowhere", "--data", "d"], 3, "there is no ledger at nowhere"),
        (["classify", "--run", "nowhere", "x.png"], 3, "there is no ledger at nowhere"),
        (["export-adapted", "nowhere"], 3, "there is no ledger at nowhere"),
        (["bundle", "show", "nowhere"], 3, "nowhere is no bundle"),
        (["keys", "enrol", "nowhere.key"], 3, "is not a key file"),
        (["doctor", "missing.toml"], 2, "missing.toml cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_argument_gets_a_sentence_and_a_code_that_means_something(
    words: list[str], code: int, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *words) == code
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert sentence in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("federation = 'x'\n[rounds]\ngaol = 3", "f.toml: unknown key rounds.gaol; did you mean rounds.goal?"),
        ("federation = 'x'\n[task]\nepoch = 3", "f.toml: unknown key task.epoch; did you mean task.epochs?"),
        ("federation = 'x'\n[task]\nloss = 'hinge'", "task.loss is 'hinge'; fedclip has class, reference"),
        ("federation = 'x'\n[task]\nmethod = 'faaclip'", "has no features of it: set task.target.pool to an .npz"),
        ("federation = 'x'\n[task]\ntarget.poll = 'x'", "unknown key task.target.poll; did you mean task.target.pool?"),
        ("federation = 'x'\n[task.target]\npart = '0/2'", "f.toml: task.target.part is '0/2'"),
        ("federation = 'x'\n[codec]\nup = 'zip'", f"no codec named 'zip'; there are {', '.join(CODECS)}"),
        ("federation = 'x'\nrule = 'best'", "rule is 'best'; there are mean"),
        ("federation = 'x'\n[stop]\nversions = -1", "stop.versions is -1"),
        ("federation = 'x'\n[see]\nmetrics = 'here'", "f.toml: see.metrics is 'here'; it takes a port up to 65535"),
        ("federation = 'x'\n[see]\npage = '10.0.0.5:99999'", "see.page is '10.0.0.5:99999'"),
        ("run = 'x'", "f.toml: federation is missing"),
        ("federation =", "f.toml is not TOML"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_starts(
    text: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("f.toml").write_text(text)
    assert run(monkeypatch, "serve", "f.toml") == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not Path("run").exists()


def test_a_port_in_use_is_a_sentence_and_leaves_no_run_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        Path("f.toml").write_text(f"federation = 'x'\n[link]\naddress = 'tcp://127.0.0.1:{taken.getsockname()[1]}'")
        assert run(monkeypatch, "serve", "f.toml") == 5
        assert run(monkeypatch, "doctor", "f.toml", "--json") == 1
    shown = capsys.readouterr()
    assert "is in use; stop what listens there, or choose another port" in " ".join(shown.err.split())
    findings = [json.loads(line) for line in shown.out.splitlines()]
    assert [one["what"] for one in findings if one["state"] == "failed"] == ["address"]
    assert not Path("run").exists()


def test_outside_loopback_an_aggregator_needs_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("f.toml").write_text("federation = 'x'\n[link]\naddress = 'tcp://0.0.0.0:*'")
    assert run(monkeypatch, "serve", "f.toml") == 3
    assert "fedmq keys new makes one" in " ".join(capsys.readouterr().err.split())


def test_keys_are_made_once_kept_private_and_enrolled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "keys", "new", "edge-1") == 0
    assert run(monkeypatch, "keys", "new", "edge-1") == 3
    assert run(monkeypatch, "keys", "enrol", "keys/edge-1.key") == 0
    assert Path("keys/edge-1.key_secret").stat().st_mode & 0o777 == 0o600
    assert Path("keys/enrolled/edge-1.key").read_text() == Path("keys/edge-1.key").read_text()
    assert "a new key is a new identity" in " ".join(capsys.readouterr().err.split())


def test_a_damaged_bundle_is_named_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle(tmp_path / "toy")
    values, labels = features(9, 0)
    np.savez("f.npz", features=values, labels=labels)
    (tmp_path / "toy" / "text.safetensors").write_bytes(b"cut")
    assert run(monkeypatch, "join", "tcp://127.0.0.1:1", "--features", "f.npz", "--bundle", "./toy") == 3
    assert "text.safetensors has digest" in " ".join(capsys.readouterr().err.split())


def test_the_doctor_finds_nothing_wrong_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "doctor", "--json") == 0
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"python", "packages", "devices", "torch", "bundle", "cache"} <= {one["what"] for one in findings}
    assert {one["state"] for one in findings} <= {"ok", "warning"}


def test_a_broker_that_does_not_answer_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    assert run(monkeypatch, "doctor", "--broker", place, "--json") == 1
    (failed,) = (one for line in capsys.readouterr().out.splitlines() if (one := json.loads(line))["state"] == "failed")
    assert failed["what"] == "broker"
    assert f"the broker at mqtt://{place} cannot be reached" in failed["text"]
