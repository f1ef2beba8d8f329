"""The documentation as a site: it builds without a warning, and has every code that there is."""

import re
import subprocess
import sys
from pathlib import Path

from fedmq import errors
from fedmq.messages import Code

ROOT = Path(__file__).parents[1]


def test_the_page_of_errors_has_every_verdict_and_every_exit_code() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    codes = [value for name, value in vars(errors).items() if name.startswith("EXIT_")]
    assert {f"`{code}`" for code in Code if f"`{code}`" not in page} == set()
    assert [code for code in codes if f"| {code} |" not in page] == []


def test_the_page_of_errors_has_every_reason_that_the_runtime_gives() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    given = re.compile(r'(?:BadFrame|Refuse|Refused|Unknown)\(\s*(?:0, |[\w.]+, )?"([a-z_]+)"')
    sources = "\n".join(file.read_text() for file in (ROOT / "runtime").rglob("*.py"))
    reasons = set(given.findall(sources))
    assert len(reasons) > 10
    assert {reason for reason in reasons if f"`{reason}`" not in page} == set()


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fedmq broker-config" in (tmp_path / "site" / "commands" / "index.html").read_text()
    assert (ROOT / "tests" / "frames" / "hello.fmq").read_bytes().hex()[:64] in (
        tmp_path / "site" / "wire-format" / "index.html"
    ).read_text()
