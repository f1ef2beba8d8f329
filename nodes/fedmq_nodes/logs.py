"""Logs of the commands that read images: what Pillow warns of is logged for every file, not for the first one alone."""

import warnings

from fedmq import observe


def configure(level: str) -> None:
    """Write logs of this level and above to standard error; for the whole process, so only commands call it."""
    observe.configure(level)
    # By default Python shows a warning once per text and place, which hides all files but the first.
    warnings.filterwarnings("always", module=r"PIL\.")
