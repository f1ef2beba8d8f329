"""Seeds: the same parts give the same seed at both ends, and any other parts another."""

import hashlib
import subprocess
import sys

from fedmq.seeds import seed


def test_a_seed_is_64_bits_of_sha256_over_the_parts() -> None:
    expected = int.from_bytes(hashlib.sha256(b"('down', 7)").digest()[:8], "little")
    assert seed("down", 7) == expected < 2**64


def test_another_process_derives_the_same_seed() -> None:
    code = "from fedmq.seeds import seed; print(seed('pacs', 'edge-7', 41))"
    found = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": "1"}, capture_output=True, check=True)
    assert int(found.stdout) == seed("pacs", "edge-7", 41)


def test_parts_that_differ_in_any_way_give_different_seeds() -> None:
    parts: list[tuple[str | int, ...]] = [
        (),
        ("",),
        ("", ""),
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        ("a", "b", "c"),
        (1,),
        ("1",),
        (-1,),
        (1, 2),
        (12,),
        (2, 1),
        ("1, 2",),
        ("'1', '2'",),
        ("1', '2",),
        ("1", "2"),
    ]
    assert len({seed(*found) for found in parts}) == len(parts)


def test_seeds_of_consecutive_numbers_share_no_bit_pattern() -> None:
    bits = sum(f"{seed('down', i) ^ seed('down', i + 1):064b}".count("1") for i in range(1000))
    assert 31_000 < bits < 33_000
