"""Options that several commands take."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of text for a person.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as rounds.goal=4.")
]
Metrics = Annotated[
    str | None, typer.Option(metavar="[HOST:]PORT", help="Serve Prometheus metrics there; this machine unless told.")
]
Level = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]
UntilEof = Annotated[
    bool, typer.Option("--until-eof", help="Stop when standard input ends: with whoever started this, and holds it.")
]
