"""Where real data lies, for tests that need it: FEDMQ_DATA, or the folder `shared/data` beside the project."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("FEDMQ_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip a test, with the reason, where some of the evaluation data is absent."""
    missing = [name for name in names if not (DATA / name).exists()]
    return pytest.mark.skipif(bool(missing), reason=f"evaluation data absent: {', '.join(missing)} (set FEDMQ_DATA)")
