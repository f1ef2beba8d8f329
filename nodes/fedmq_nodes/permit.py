"""A permit: when this device may train. By hours of its own clock, and by a command that says so, such as one that asks
for mains power.

Neither is trusted to stay as it is: whoever waits asks again and again, so that a clock that is set, or a device that
was asleep, does no harm.
"""

import re
import shlex
from dataclasses import dataclass

from fedmq.errors import ConfigInvalid

HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Hours:
    """From one minute of the day to before another; past midnight if that is earlier, all day if it is the same."""

    begin: int
    end: int

    def has(self, minute: int) -> bool:
        """Whether this minute of the day is in them."""
        if self.begin < self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end


@dataclass(frozen=True)
class Permit:
    """hours: None is at any time; command: permits with exit code 0, None always does."""

    hours: Hours | None = None
    command: tuple[str, ...] | None = None

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to ask."""
        return self.hours is not None or self.command is not None


def permit(hours: str | None, command: str | None) -> Permit:
    """Return what these options say: HH:MM-HH:MM, and a command without a shell.

    raises     ConfigInvalid
    """
    found = None
    if hours is not None:
        if (read := HOURS.fullmatch(hours)) is None:
            raise ConfigInvalid(f"hours is {hours!r}; it takes from and to, such as 22:00-06:00")
        begin_h, begin_m, end_h, end_m = map(int, read.groups())
        found = Hours(60 * begin_h + begin_m, 60 * end_h + end_m)
    words = None
    if command is not None:
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise ConfigInvalid(f"when is {command!r}, which is no command: {error}") from error
        if not words:
            raise ConfigInvalid("when is empty; it takes a command, such as 'test -e /run/on-mains'")
    return Permit(found, words)
