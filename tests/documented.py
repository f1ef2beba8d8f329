"""The commands that stand in documentation and files, read as the command line would read them."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer

from fedmq import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FILES = [path for path in sorted((ROOT / "deploy").rglob("*")) if path.is_file() and path.suffix != ".json"]
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SHELLS = ("", "sh", "bash", "console")
INLINE = re.compile(r"`(fedmq [a-z][^`]*)`")
COMMENT = re.compile(r"^#   (.*)$", re.MULTILINE)


class NotThere(Exception):
    """There is no such command, option or argument; `missing` where only an argument is left out."""

    def __init__(self, text: str, missing: bool = False) -> None:
        super().__init__(text)
        self.missing = missing


@cache
def root() -> Any:
    return typer.main.get_command(cli.application())


def understood(words: list[str]) -> str:
    """Return the command that these words name, read as it would read them; nothing is run.

    raises     NotThere
    """
    command, context, rest = root(), None, list(words)
    # Which Click this is, typer's own or the one beside it, depends on typer: so nothing here names its classes.
    while hasattr(command, "get_command"):
        context = command.context_class(command, parent=context, info_name=rest.pop(0) if context else "fedmq")
        found = command.get_command(context, rest[0]) if rest else None
        if found is None:
            raise NotThere(f"there is no command fedmq {' '.join(words)}", missing=not rest)
        command = found
    try:
        made = command.make_context(rest[0], rest[1:], parent=context)
    except Exception as error:
        if getattr(error, "exit_code", None) != 2:
            raise
        missing = type(error).__name__ == "MissingParameter"
        raise NotThere(f"fedmq {' '.join(words)}: {error}", missing) from error
    return str(made.command_path)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every call of fedmq in a script."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\||[;|]", line.partition(" #")[0]):
            words = shlex.split(part.strip().strip("'\"").replace("'", "")) if "fedmq " in part else []
            if "fedmq" in words[:1]:
                yield words[1:]


def written(path: Path) -> Iterator[list[str]]:
    """Yield the words of every call that a page or a file has."""
    text = path.read_text()
    if path.suffix == ".md":
        for language, block in BLOCK.findall(text):
            if language in SHELLS:
                yield from commands(block)
    else:
        for line in COMMENT.findall(text):
            yield from commands(line)


def named(path: Path) -> Iterator[str]:
    """Yield every mention of a command within a sentence."""
    yield from INLINE.findall(path.read_text())
