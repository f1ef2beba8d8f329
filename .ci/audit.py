"""Reads what `pip-audit --format json` found, says it, and ends with 0 only if something was really looked at.

pip-audit itself ends well where the index that it asks knows none of the packages, as a mirror of PyPI does.

Exit codes: 0 nothing is known, 1 weaknesses are known, 5 nobody could be asked.
"""

import json
import sys
from typing import Any


def told(answer: str) -> tuple[int, list[str]]:
    """Return the exit code, and what to say."""
    try:
        packages: list[dict[str, Any]] = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 5, ["pip-audit gave no answer: the database of vulnerabilities cannot be reached; try where it can"]
    looked = [package for package in packages if "vulns" in package]
    unknown = [f"not looked at: {package['skip_reason']}" for package in packages if "vulns" not in package]
    if not looked:
        text = f"0 of {len(packages)} packages were looked at: the index here does not say what is known of them"
        return 5, [*unknown, f"{text}; try where pypi.org can be reached"]
    weak = [
        f"{package['name']} {package['version']}: {one['id']}, mended in {', '.join(one['fix_versions']) or 'none yet'}"
        for package in looked
        for one in package["vulns"]
    ]
    text = f"known weaknesses: {len(weak)}; packages looked at: {len(looked)} of {len(packages)}"
    return int(bool(weak)), [*unknown, *weak, text]


if __name__ == "__main__":
    code, lines = told(sys.stdin.read())
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(code)
