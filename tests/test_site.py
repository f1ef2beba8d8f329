"""The documentation: it builds without a warning, and says nothing of commands, options and codes that is not so."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from fedmq import errors
from fedmq.cli import application
from fedmq.messages import Code

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


def commands_in(page: Path) -> Iterator[str]:
    """Yield the lines of code blocks that begin with fedmq, as one would type them."""
    fence = ""
    for line in map(str.strip, page.read_text().splitlines()):
        if line.startswith("```"):
            fence = "" if fence else line
        elif fence in ("```", "```sh") and line.startswith("fedmq "):
            yield line.split(" #")[0].strip()


SHOWN = [pytest.param(line, id=f"{page.stem}: {line}") for page in PAGES for line in dict.fromkeys(commands_in(page))]


@pytest.mark.parametrize("line", SHOWN)
def test_every_command_that_is_shown_exists_with_its_options(line: str) -> None:
    command: Any = typer.main.get_command(application())
    words = shlex.split(line)[1:]
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"{line}: no command {words[0]}"
        command = command.commands[words.pop(0)]
    known = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)} | {"--help", "-h"}
    for word in words:
        if word.startswith("-"):
            assert word.split("=")[0] in known, f"{line}: {command.name} has no {word}"


def test_commands_are_shown_at_all() -> None:
    assert len(SHOWN) > 30


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
