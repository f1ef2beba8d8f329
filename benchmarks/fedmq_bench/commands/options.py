"""Options that several benchmarks take, and how they say what they are at."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines for a script instead of text for a person.")]
Keep = Annotated[bool, typer.Option("--keep", help="Append the rows to benchmarks/fedmq_bench/results.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Append the rows to this file.")]
Repeats = Annotated[int, typer.Option(min=1, help="Turns of both sides.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
CodecNames = Annotated[str, typer.Option("--codec", help="Codecs of the updates, such as fp32,int8,fp16.")]
Wire = Annotated[str, typer.Option("--link", help="zmq, curve, mqtt, or sealed: mqtt with sealed frames.")]


def say(line: str) -> None:
    """Tell whoever waits; rows alone go to standard output."""
    typer.echo(line, err=True)
