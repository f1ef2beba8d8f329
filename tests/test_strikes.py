"""Strikes: who is muted, for how long, and how little a stranger can make us remember."""

from fedmq.strikes import REMEMBERED, Strikes


def test_a_peer_is_muted_at_the_limit_for_as_long_as_was_said() -> None:
    strikes = Strikes(limit=3, mute_s=60.0)
    assert [strikes.add("edge-1", now) for now in (0.0, 1.0)] == [1, 2]
    assert not strikes.muted("edge-1", 1.0)
    assert strikes.add("edge-1", 2.0) == 3
    assert [strikes.muted("edge-1", now) for now in (2.0, 61.9, 62.0, 70.0)] == [True, True, False, False]


def test_the_count_begins_again_after_a_mute() -> None:
    strikes = Strikes(limit=2, mute_s=10.0)
    assert [strikes.add("edge-1", now) for now in (0.0, 0.0, 20.0, 20.0)] == [1, 2, 1, 2]
    assert [strikes.muted("edge-1", now) for now in (29.0, 30.0)] == [True, False]


def test_a_limit_of_one_mutes_at_once() -> None:
    strikes = Strikes(limit=1, mute_s=10.0)
    assert (strikes.add("edge-1", 0.0), strikes.muted("edge-1", 0.0)) == (1, True)


def test_peers_are_struck_each_for_itself() -> None:
    strikes = Strikes(limit=2, mute_s=10.0)
    assert [strikes.add(peer, 0.0) for peer in ("a", "b", "a")] == [1, 1, 2]
    assert [strikes.muted(peer, 1.0) for peer in ("a", "b", "nobody")] == [True, False, False]


def test_a_thousand_names_are_remembered_and_the_one_longest_unstruck_is_forgotten_first() -> None:
    strikes = Strikes(limit=3, mute_s=10.0)
    for i in range(REMEMBERED):
        strikes.add(f"name-{i}", 0.0)
    strikes.add("name-0", 1.0)
    strikes.add("one more", 1.0)
    assert [strikes.add(peer, 2.0) for peer in ("name-0", "name-2", "name-1")] == [3, 2, 1]


def test_a_flood_of_invented_names_does_not_grow_what_is_remembered() -> None:
    counted, muted = Strikes(limit=2, mute_s=10.0), Strikes(limit=1, mute_s=10.0)
    for i in range(5 * REMEMBERED):
        counted.add(f"name-{i}", 0.0)
        muted.add(f"name-{i}", 0.0)
    last = range(4 * REMEMBERED, 5 * REMEMBERED)
    assert [i for i in range(5 * REMEMBERED) if muted.muted(f"name-{i}", 1.0)] == list(last)
    assert [i for i in last if counted.add(f"name-{i}", 1.0) != 2] == []
    assert counted.add("name-0", 1.0) == 1
