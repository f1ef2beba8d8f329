"""Fold: what one update costs an aggregator, beside numpy's `acc += w * x` on vectors of the same size.

Ours is the whole way of an update whose bytes have arrived: read the frame, judge it, unpack it, look for NaN and
measure its norm (`guard_s` of the row), weigh it, fold it. Numpy's side is told the weight, has float32 already and
checks nothing.
"""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq import codec as frames
from fedmq.collect import Collector
from fedmq.compress import codec
from fedmq.delta import Arrays, Delta, Params, Schema, norm
from fedmq.journal import Traffic
from fedmq.messages import Code, Update
from fedmq.past import Point
from fedmq.plan import Codecs, Settings
from fedmq.rounds import Cause
from fedmq_bench.harness import Pair, Say, figures, in_turns, seconds
from fedmq_bench.untrained import STEP, schema

EXAMPLES = 100
WARM_UP = 3


def measure(
    codecs: Sequence[str], repeats: int, seed: int, say: Say, dim: int = 512, updates: int = 16
) -> Iterator[dict[str, Any]]:
    """Yield a row per codec.

    updates     different ones per turn: together larger than a cache, as what comes from many nodes is
    """
    for name in codecs:
        say(f"{name}: {repeats} turns of {updates} updates")
        yield run(name, repeats, seed, dim, updates)


def run(name: str, repeats: int, seed: int, dim: int, updates: int) -> dict[str, Any]:
    """Return the row of one codec."""
    form = schema(dim)
    rng = np.random.default_rng(seed)
    deltas = [rng.normal(0.0, STEP, form.size).astype(np.float32) for _ in range(updates)]
    arrived = [_frame(name, form, delta, seed, number) for number, delta in enumerate(deltas)]
    start = Params(Arrays(form, np.zeros(form.size, np.float32)))
    collector = Collector(Settings("fold", codec=Codecs(up=name)), Point(0, start, start))
    total, weight = np.zeros(form.size, np.float32), np.float32(EXAMPLES)

    def ours() -> None:
        for frame in arrived:
            update = frames.decode(frame)
            assert isinstance(update, Update)
            entry = collector.judge("node", update, frames.size_bytes(frame), 0.0)
            assert entry.code is Code.ACCEPTED, entry.text

    def numpys() -> None:
        nonlocal total
        for delta in deltas:
            total += weight * delta

    turns = in_turns(ours, numpys, repeats, WARM_UP)
    guarded = [Delta(Arrays(form, delta)) for delta in deltas]
    guard = [seconds(lambda: [norm(delta) for delta in guarded]) / updates for _ in range(repeats)]
    mean = collector.commit(Cause.GOAL, Traffic(), 0.0).params.flat
    expected = total / np.float32(EXAMPLES * updates * (repeats + WARM_UP))
    each = Pair([s / updates for s in turns.ours], [s / updates for s in turns.theirs])
    return {
        "case": "fold",
        "codec": name,
        "median_s": each.median_s,
        "numpy_s": each.other_s,
        **figures(each),
        "guard_s": median(guard),
        "params": form.size,
        "payload_bytes": codec(name).size_bytes(form),
        "updates": updates,
        # That both sides did the same work: 0 for a lossless codec.
        "difference": float(np.abs(mean - expected).max()),
    }


def _frame(name: str, form: Schema, delta: NDArray[np.float32], seed: int, number: int) -> frames.Frame:
    """Return an update as a link hands it over: the head and the payload, each in a buffer of its own."""
    payload = codec(name).pack(Arrays(form, delta), seed + number)
    update = Update(session=1, seq=number + 1, base_version=0, codec=name, examples=EXAMPLES, payload=payload)
    return tuple(memoryview(bytes(part)) for part in frames.encode(update))
