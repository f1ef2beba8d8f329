"""Versions: what the aggregator knows and its nodes hold is the same to the bit, however a node comes by it."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.random import Generator

from fedmq.compress import codec
from fedmq.delta import Arrays, Params, Schema
from fedmq.errors import BadPayload
from fedmq.messages import Model
from fedmq.versions import Versions, adopt, proof

SCHEMA = Schema((("weight", (8, 64)), ("bias", (8,))))
WHOLE = 4 * SCHEMA.size
LOSSY = ["fp16", "int8", "int4", "eden2", "eden1"]


def moved(params: Params, rng: Generator, scale: float = 0.1) -> Params:
    return Params(Arrays(SCHEMA, params.flat + (scale * rng.standard_normal(SCHEMA.size)).astype(np.float32)))


def beginning(name: str) -> Versions:
    start = Params(Arrays(SCHEMA, np.zeros(SCHEMA.size, np.float32)))
    return Versions(0, start, start, codec(name))


class Holder:
    """A node, as far as versions go."""

    def __init__(self) -> None:
        self.version = -1
        self.params: Params | None = None

    def catch_up(self, versions: Versions) -> list[Model]:
        news = versions.news(self.version)
        for model in news:
            params = adopt(model, self.params, self.version, SCHEMA)
            assert params is not None
            self.version, self.params = model.version, params
        return news

    def agrees(self, versions: Versions) -> bool:
        assert self.params is not None
        return (self.version, self.params.flat.tobytes()) == (versions.number, versions.broadcast.flat.tobytes())


def test_without_loss_each_version_is_announced_whole_and_exact() -> None:
    versions, rng = beginning("fp32"), np.random.default_rng(0)
    for number in range(1, 6):
        params = moved(versions.exact, rng)
        versions.commit(params)
        whole = [Model(number, -1, "fp32", b"", params.flat.tobytes())]
        assert [versions.news(held) for held in range(-1, number + 1)] == [whole] * (number + 1) + [[]]
        assert (versions.number, versions.exact, versions.broadcast) == (number, params, params)


@pytest.mark.parametrize("name", LOSSY)
def test_node_and_aggregator_agree_to_the_bit_over_many_versions(name: str) -> None:
    versions, rng, node = beginning(name), np.random.default_rng(0), Holder()
    node.catch_up(versions)
    for number in range(1, 200):
        versions.commit(moved(versions.exact, rng))
        (model,) = node.catch_up(versions)
        assert (model.version, model.since, model.codec) == (number, number - 1, name)
        assert node.agrees(versions)


@pytest.mark.parametrize(("name", "share"), [("fp16", 2.0**-11), ("int8", 1 / 126)])
def test_what_nodes_hold_stays_within_one_step_of_what_the_aggregator_knows(name: str, share: float) -> None:
    """An error r follows x by |r'| <= (largest move + |r|) x share, and so never adds up."""
    versions, rng = beginning(name), np.random.default_rng(1)
    furthest = largest = 0.0
    for _ in range(300):
        before = versions.exact
        versions.commit(moved(before, rng))
        largest = max(largest, float(np.abs(versions.exact.flat - before.flat).max()))
        furthest = max(furthest, float(np.abs(versions.exact.flat - versions.broadcast.flat).max()))
    rounding = 4 * float(np.spacing(np.abs(versions.exact.flat).max()))
    assert 0.0 < furthest <= share * largest + rounding


@pytest.mark.parametrize(("name", "error"), [("eden2", 0.1331), ("eden1", 0.5708)])
def test_what_a_rotation_loses_never_adds_up_either(name: str, error: float) -> None:
    """|r'|^2 = (|move|^2 + |r|^2) x error where moves are independent, so |r|^2 settles at error / (1 - error)."""
    versions, rng, squares = beginning(name), np.random.default_rng(1), []
    for _ in range(400):
        versions.commit(moved(versions.exact, rng))
        off = versions.exact.flat - versions.broadcast.flat
        squares.append(float(off @ off) / (0.01 * SCHEMA.size))
    assert np.mean(squares[100:]) == pytest.approx(error / (1 - error), rel=0.1)


@pytest.mark.parametrize("name", LOSSY)
def test_what_the_codec_lost_goes_out_with_later_versions(name: str) -> None:
    versions, rng = beginning(name), np.random.default_rng(2)
    versions.commit(moved(versions.exact, rng))
    off = [float(np.abs(versions.exact.flat - versions.broadcast.flat).max())]
    # What is left halves at least with every second version, with one bit; the finer, the faster.
    for _ in range({"fp16": 4, "int8": 4, "int4": 12, "eden2": 25, "eden1": 80}[name]):
        versions.commit(versions.exact)
        off.append(float(np.abs(versions.exact.flat - versions.broadcast.flat).max()))
    assert off[0] > 1e-6 > off[-1]


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("missed", range(1, 8))
def test_a_node_catches_up_by_what_it_missed_or_by_the_whole_whichever_is_smaller(name: str, missed: int) -> None:
    versions, rng, node = beginning(name), np.random.default_rng(3), Holder()
    for _ in range(5):
        versions.commit(moved(versions.exact, rng))
    node.catch_up(versions)
    for _ in range(missed):
        versions.commit(moved(versions.exact, rng))
    news = node.catch_up(versions)
    one = codec(name).size_bytes(SCHEMA)
    assert sum(len(model.payload) for model in news) == min(missed * one, WHOLE)
    assert node.agrees(versions)


@pytest.mark.parametrize("name", ["fp32", *LOSSY])
def test_a_node_that_has_nothing_gets_the_whole_of_what_the_others_hold(name: str) -> None:
    versions, rng, node = beginning(name), np.random.default_rng(4), Holder()
    for _ in range(3):
        assert [model.since for model in Holder().catch_up(versions)] == [-1]
        versions.commit(moved(versions.exact, rng))
    node.catch_up(versions)
    assert node.agrees(versions)


def test_announcements_take_no_more_memory_than_the_params() -> None:
    versions, rng = beginning("int8"), np.random.default_rng(5)
    for number in range(1, 50):
        versions.commit(moved(versions.exact, rng))
        kept = [model for model in versions.news(max(0, number - 3)) if model.since >= 0]
        assert 0 < sum(len(model.payload) for model in kept) < WHOLE
    assert [model.since for model in versions.news(0)] == [-1]


def test_a_version_that_lies_in_the_future_is_answered_with_the_whole() -> None:
    versions = beginning("int8")
    versions.commit(moved(versions.exact, np.random.default_rng(6)))
    assert [(model.version, model.since) for model in versions.news(9)] == [(1, -1)]


def test_each_version_rounds_its_own_way() -> None:
    """Or what one version rounded down, the next would too."""
    start, payloads = beginning("int8").exact, []
    for number in (0, 1, 1):
        versions = Versions(number, start, start, codec("int8"))
        versions.commit(moved(start, np.random.default_rng(12)))
        payloads.append(versions.news(number)[0].payload)
    assert payloads[0] != payloads[1] == payloads[2]


@pytest.mark.parametrize("name", LOSSY)
def test_a_restarted_aggregator_announces_what_it_would_have_announced(name: str) -> None:
    whole, rng, node = beginning(name), np.random.default_rng(7), Holder()
    for _ in range(3):
        whole.commit(moved(whole.exact, rng))
    node.catch_up(whole)
    again = Versions(whole.number, whole.exact, whole.broadcast, codec(name))
    for _ in range(3):
        params = moved(whole.exact, rng)
        whole.commit(params)
        again.commit(params)
        assert again.news(again.number - 1) == whole.news(whole.number - 1)
        node.catch_up(again)
        assert node.agrees(whole)


def test_a_change_of_codec_between_two_starts_breaks_nothing() -> None:
    versions, rng, node = beginning("int8"), np.random.default_rng(8), Holder()
    versions.commit(moved(versions.exact, rng))
    node.catch_up(versions)
    for name in ("fp32", "fp16", "int8"):
        versions = Versions(versions.number, versions.exact, versions.broadcast, codec(name))
        versions.commit(moved(versions.exact, rng))
        node.catch_up(versions)
        assert node.agrees(versions)


def test_committing_writes_to_no_params_that_were_handed_out() -> None:
    versions, rng = beginning("int8"), np.random.default_rng(9)
    handed = [versions.exact, versions.broadcast]
    before = [params.flat.tobytes() for params in handed]
    for _ in range(3):
        versions.commit(moved(versions.exact, rng))
        handed += [versions.exact, versions.broadcast]
        before += [params.flat.tobytes() for params in handed[-2:]]
    assert [params.flat.tobytes() for params in handed] == before


# At the node


def announced(name: str) -> tuple[Params, Model, Model]:
    """Return the params of version 1, and the announcements of 2 and 3."""
    versions, rng = beginning(name), np.random.default_rng(10)
    versions.commit(moved(versions.exact, rng))
    held, news = versions.broadcast, []
    for _ in range(2):
        versions.commit(moved(versions.exact, rng))
        news += versions.news(versions.number - 1)
    return held, news[0], news[1]


@pytest.mark.parametrize("name", LOSSY)
def test_a_gap_gives_nothing_and_neither_does_a_repeat(name: str) -> None:
    held, second, third = announced(name)
    assert adopt(second, held, 1, SCHEMA) is not None
    assert adopt(third, held, 1, SCHEMA) is None
    assert adopt(second, held, 2, SCHEMA) is None
    assert adopt(second, None, -1, SCHEMA) is None


@pytest.mark.parametrize("name", LOSSY)
def test_a_payload_that_was_tampered_with_is_refused(name: str) -> None:
    held, model, _ = announced(name)
    for place in (0, 40, len(model.payload) - 1):
        payload = bytearray(model.payload)
        payload[place] ^= 0x01
        with pytest.raises(BadPayload, match=r"version 2 does not add up here|a scale is finite"):
            adopt(replace(model, payload=bytes(payload)), held, 1, SCHEMA)
    with pytest.raises(BadPayload, match="does not add up"):
        adopt(replace(model, digest=bytes(16)), held, 1, SCHEMA)
    with pytest.raises(BadPayload, match="does not add up"):
        adopt(replace(model, digest=b""), held, 1, SCHEMA)


def test_an_announcement_on_another_base_than_it_was_made_for_is_refused() -> None:
    held, model, _ = announced("int8")
    with pytest.raises(BadPayload, match="does not add up"):
        adopt(model, moved(held, np.random.default_rng(11), 1e-3), 1, SCHEMA)


def test_a_payload_of_another_size_is_refused_even_where_the_base_is_missing() -> None:
    _, model, _ = announced("int8")
    for since in (-1, 1):
        with pytest.raises(BadPayload, match="int8 payload of 3 bytes, the schema needs"):
            adopt(replace(model, since=since, payload=b"abc"), None, -1, SCHEMA)


def test_a_codec_that_this_end_does_not_know_is_the_senders_fault() -> None:
    _, model, _ = announced("int8")
    with pytest.raises(BadPayload, match="version 2 comes as 'zip'; this end knows fp32, fp16, "):
        adopt(replace(model, codec="zip"), None, -1, SCHEMA)


@pytest.mark.parametrize("name", ["fp32", *LOSSY])
def test_a_version_is_known_by_its_own_proof_and_not_by_that_of_the_one_before(name: str) -> None:
    versions, rng = beginning(name), np.random.default_rng(0)
    for number in range(3):
        shown = proof(versions.broadcast)
        assert versions.has(number, shown)
        assert versions.has(number, shown)  # asked again, too
        versions.commit(moved(versions.exact, rng))
        versions.announced = versions.number
        assert not versions.has(number + 1, shown)
