"""What the site takes from the code: the commands as they are, and the golden frames as the tests have them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from fedmq.cli import application

FRAMES = Path(__file__).parents[2] / "tests" / "frames"
ROW_BYTES = 32


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the generated parts in their places; MkDocs calls this for every page."""
    if "\nCOMMANDS\n" in markdown:
        markdown = markdown.replace("\nCOMMANDS\n", "\n" + "\n".join(_commands()) + "\n")
    if "\nGOLDEN\n" in markdown:
        markdown = markdown.replace("\nGOLDEN\n", "\n" + "\n".join(_frames()) + "\n")
    return markdown


def _commands() -> Iterator[str]:
    yield from _of(typer.main.get_command(application()), "fedmq")


def _of(command: Any, path: str) -> Iterator[str]:
    """Yield a command, or those of a group; typer brings its own click, so nothing is said here of its classes."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            if not inner.hidden:
                yield from _of(inner, f"{path} {name}")
        return
    words = " ".join(param.name.upper() for param in command.params if param.param_type_name == "argument")
    yield f"## {path}\n\n{command.help or ''}\n\n```\n{' '.join(filter(None, (path, words, '[OPTIONS]')))}\n```\n"
    options = [param for param in command.params if param.param_type_name == "option" and not param.hidden]
    if options:
        yield "| option | default | |\n|---|---|---|"
    for option in options:
        yield f"| {_code(*option.opts)} | {_default(option)} | {_cell(option.help or '')} |"
    yield ""


def _default(option: Any) -> str:
    value = option.default
    return "" if value in (None, False, "", (), []) or callable(value) else _code(str(value))


def _code(*words: str) -> str:
    return ", ".join(f"`{_cell(word)}`" for word in words)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _frames() -> Iterator[str]:
    for file in sorted(FRAMES.iterdir()):
        data = file.read_bytes().hex()
        rows = (data[at : at + 2 * ROW_BYTES] for at in range(0, len(data), 2 * ROW_BYTES))
        yield f"**{file.stem}**, {len(data) // 2} bytes\n\n```\n" + "\n".join(rows) + "\n```\n"
