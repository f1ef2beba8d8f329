"""Which params travel: parts by name, and what a method says of itself."""

import numpy as np
import pytest

from fedmq_models.errors import OptionInvalid
from fedmq_models.methods import METHODS, method, version_0
from fedmq_models.sharing import shared

NAMES = ("head.weight", "adapter.0.weight", "adapter.0.bias", "adapter.2.weight")
PERSONAL = method("personal")


@pytest.mark.parametrize(
    ("share", "travels"),
    [
        ((), NAMES[:1]),
        (("head",), NAMES[:1]),
        (("adapter",), NAMES[1:]),
        (("adapter.0",), NAMES[1:3]),
        (("adapter.2", "head.weight"), (NAMES[0], NAMES[3])),
        (("head", "adapter"), NAMES),
    ],
)
def test_a_part_is_a_name_or_what_stands_before_a_dot_in_one(share: tuple[str, ...], travels: tuple[str, ...]) -> None:
    assert shared(PERSONAL, share, NAMES) == travels


@pytest.mark.parametrize("part", ["heads", "hea", "adapter.", "adapter.0.w", ""])
def test_a_part_that_is_not_there_is_refused_with_those_that_are(part: str) -> None:
    with pytest.raises(OptionInvalid, match=f"task.share names '{part}'; personal has head, adapter"):
        shared(PERSONAL, ("head", part), NAMES)


@pytest.mark.parametrize("name", METHODS)
def test_of_every_method_something_travels_unless_told_otherwise_and_what_stays_is_there(name: str) -> None:
    how = method(name)
    params = version_0(how, np.eye(3, 8, dtype=np.float32), 1.0, np.random.default_rng(0))
    travels = shared(how, (), params)
    assert travels
    assert [part for part in how.stays if not shared(how, (part,), params)] == []
    assert bool(how.stays) == (set(travels) != set(params))
