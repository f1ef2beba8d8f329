"""An audit that could ask nobody is no audit that found nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit.py"
SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited: numpy (2.1.0)"}
SOUND: dict[str, Any] = {"name": "rich", "version": "13.7.0", "vulns": []}
WEAK = {"name": "pillow", "version": "9.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["9.0.1"]}]}


def audited(answer: str) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, SCRIPT], input=answer, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(
    ("answer", "code", "last"),
    [
        ("", 5, "pip-audit gave no answer: the database of vulnerabilities cannot be reached; try where it can"),
        ("[]", 5, "pip-audit gave no answer: the database of vulnerabilities cannot be reached; try where it can"),
        (
            json.dumps({"dependencies": [SKIPPED]}),
            5,
            "0 of 1 packages were looked at: the index here does not say what is known of them; "
            "try where pypi.org can be reached",
        ),
        (json.dumps({"dependencies": [SOUND, SKIPPED]}), 0, "known weaknesses: 0; packages looked at: 1 of 2"),
        (json.dumps({"dependencies": [SOUND, WEAK]}), 1, "known weaknesses: 1; packages looked at: 2 of 2"),
    ],
)
def test_only_an_audit_that_looked_at_something_and_found_nothing_ends_well(answer: str, code: int, last: str) -> None:
    found, lines = audited(answer)
    assert (found, lines[-1]) == (code, last)


def test_a_weakness_is_named_with_the_version_that_mends_it() -> None:
    _, lines = audited(json.dumps({"dependencies": [WEAK]}))
    assert lines[0] == "pillow 9.0: PYSEC-1, mended in 9.0.1"
