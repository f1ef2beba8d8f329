"""The house writes `name    what it is` in docstrings, in columns; a site wants a list."""

import re
from typing import Any

from griffe import Extension, Object

ENTRY = re.compile(r"^([\w.]+(?:, [\w.]+)*) {2,}(\S.*)$")
ENTRIES = ("raises", "returns")


class Columns(Extension):
    """Turns the columns of every docstring into Markdown lists."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite one docstring; the loader calls this for each module, class and function."""
        if obj.docstring is not None:
            obj.docstring.value = listed(obj.docstring.value)


def listed(text: str) -> str:
    """Return the text with entries as list items, the lines that continue them drawn in."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if entry := ENTRY.match(line):
            if not inside and lines and lines[-1]:
                lines.append("")
            lines.append(f"- **{entry[1]}** {entry[2]}" if entry[1] in ENTRIES else f"- `{entry[1]}` {entry[2]}")
            inside = True
        elif inside and line.startswith("  "):
            lines.append(f"  {line.strip()}")
        else:
            inside = False
            lines.append(line)
    return "\n".join(lines)
