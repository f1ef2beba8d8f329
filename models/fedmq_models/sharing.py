"""Sharing: which of a method's params travel, and which stay on the node that trains them.

A part is a name, or what stands before a dot in one: `head` is `head.weight`, `adapter` all of `adapter.0.weight` and
`adapter.0.bias`. What is not shared is a node's own: it is trained with the rest, is in no update, no version and no
ledger, and begins at the same values on every node.
"""

from collections.abc import Iterable, Sequence

from fedmq_models.errors import OptionInvalid
from fedmq_models.method import Method


def shared(how: Method, share: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the params that travel, in their order.

    share      parts; none leaves it to the method
    raises     OptionInvalid for a part that the method does not have
    """
    known = tuple(names)
    for part in share:
        if not any(_is_in(name, part) for name in known):
            raise OptionInvalid(f"task.share names {part!r}; {how.name} has {', '.join(_parts(known))}")
    if share:
        return tuple(name for name in known if any(_is_in(name, part) for part in share))
    return tuple(name for name in known if not any(_is_in(name, part) for part in how.stays))


def _is_in(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _parts(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in names))
