"""Fold: what one update costs an aggregator, beside numpy's `acc += w * x` on vectors of the same size.

Ours begins with a frame that has arrived: read it, unpack the update, weigh it, fold it. Numpy's side is told the
weight and has float32 already. `judged_s` and `judged_ratio` are of the whole way of an update in an aggregator, which
judges it as well: is its base recent enough, is it finite, how long is it. They are measured beside numpy once more.
`encode_s` is what a node spends on packing one, `decode_s` the part of ours that is unpacking.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq import codec as frames
from fedmq.collect import Collector
from fedmq.compress import codec
from fedmq.delta import Arrays, Delta, Params, Schema
from fedmq.journal import Traffic
from fedmq.messages import Code, Update
from fedmq.past import Point
from fedmq.plan import Codecs, Settings
from fedmq.rounds import Cause
from fedmq.rules.mean import Mean
from fedmq.weight import Weighting
from fedmq_bench.harness import Pair, Say, figures, in_turns
from fedmq_bench.untrained import STEP, schema

EXAMPLES = 100
WARM_UP = 3
PACKED = 10  # turns are enough for seconds that are part of no ratio


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
    payloads = [frame[-1] for frame in arrived]
    start = Params(Arrays(form, np.zeros(form.size, np.float32)))
    rule, weighting = Mean(form), Weighting()
    collector = Collector(Settings("fold", codec=Codecs(up=name)), Point(0, start, start))
    total, weight = np.zeros(form.size, np.float32), np.float32(EXAMPLES)

    def ours() -> None:
        for frame in arrived:
            update = frames.decode(frame)
            assert isinstance(update, Update)
            delta = Delta(codec(update.codec).unpack(update.payload, form))
            rule.add(delta, weighting.weight(update.examples), weighting.damping(0))

    def judged() -> None:
        for frame in arrived:
            update = frames.decode(frame)
            assert isinstance(update, Update)
            entry = collector.judge("node", update, frames.size_bytes(frame), 0.0)
            assert entry.code is Code.ACCEPTED, entry.text

    def numpys() -> None:
        nonlocal total
        for delta in deltas:
            total += weight * delta

    def packed() -> None:
        for number, delta in enumerate(deltas):
            codec(name).pack(Arrays(form, delta), seed + number)

    def unpacked() -> None:
        for payload in payloads:
            codec(name).unpack(payload, form)

    each = _each(in_turns(ours, numpys, repeats, WARM_UP), updates)
    expected = total / np.float32(EXAMPLES * updates * (repeats + WARM_UP))
    whole = _each(in_turns(judged, numpys, repeats, WARM_UP), updates)
    halves = _each(in_turns(packed, unpacked, min(repeats, PACKED), WARM_UP), updates)
    means = rule.step()[0].flat, collector.commit(Cause.GOAL, Traffic(), 0.0).params.flat
    return {
        "case": "fold",
        "codec": name,
        "median_s": each.median_s,
        "numpy_s": each.other_s,
        **figures(each),
        "judged_s": whole.median_s,
        "judged_ratio": whole.ratio,
        "encode_s": halves.median_s,
        "decode_s": halves.other_s,
        "params": form.size,
        "payload_bytes": round(sum(len(frame[-1]) for frame in arrived) / updates),
        "updates": updates,
        # That both sides did the same work: 0 for a lossless codec.
        "difference": max(float(np.abs(mean - expected).max()) for mean in means),
    }


def _each(turns: Pair, updates: int) -> Pair:
    """Return seconds per update."""
    return Pair([s / updates for s in turns.ours], [s / updates for s in turns.theirs])


def _frame(name: str, form: Schema, delta: NDArray[np.float32], seed: int, number: int) -> frames.Frame:
    """Return an update as a link hands it over: the head and the payload, each in a buffer of its own."""
    payload = codec(name).pack(Arrays(form, delta), seed + number)
    update = Update(session=1, seq=number + 1, base_version=0, codec=name, examples=EXAMPLES, payload=payload)
    return tuple(memoryview(bytes(part)) for part in frames.encode(update))
