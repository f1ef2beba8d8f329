"""The pages of the documentation as somebody would follow them: files to write and commands to type, block by block."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from documented import ROOT, SHELLS

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
PROGRAMS = ("fedmq", "make", "mosquitto", "pip")


@dataclass(frozen=True)
class Shown:
    """A file that a page shows."""

    name: str
    text: str


@dataclass(frozen=True)
class Typed:
    """The commands of one block, without what is said of them."""

    commands: tuple[str, ...]


def blocks(page: Path) -> Iterator[Shown | Typed]:
    """Yield what a page has to be written or typed, in its order."""
    for margin, language, text in BLOCK.findall(page.read_text()):
        text = "".join(line.removeprefix(margin) for line in text.splitlines(keepends=True))
        if language == "toml":
            yield Shown(_name(text), text)
        elif language in SHELLS and (commands := tuple(_commands(text))):
            yield Typed(commands)


def _name(text: str) -> str:
    """Return what the pages call such a file."""
    if "[[groups]]" in text:
        return "scenario.toml"
    return "fleet.toml" if "[[nodes]]" in text else "federation.toml"


def _commands(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True) if line.startswith(PROGRAMS) else []
        if words and words[0] in PROGRAMS:
            yield shlex.join(words)
