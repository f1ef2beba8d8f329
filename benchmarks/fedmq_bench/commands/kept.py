"""What is made of kept rows: `fedmq bench table` and `plot`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def table(
    results: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where rows are kept.")] = None,
) -> None:
    """Print the newest kept rows as a Markdown table, each with the command that makes it; then those of accuracy.

    Example: fedmq bench table
    """
    from fedmq_bench import report, rows
    from fedmq_bench.accuracy import table as accuracies

    kept = rows.read(results or rows.RESULTS)
    typer.echo(report.markdown(kept))
    if reached := [row for row in kept if row["case"] == "accuracy"]:
        typer.echo(accuracies.markdown(reached))


@app.command()
def plot(
    results: Annotated[Path, typer.Argument(help="A file of rows that `fedmq bench comm` or `accuracy` gave.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="What to draw to: .svg or .png.")] = Path("comm.svg"),
    data: Annotated[str | None, typer.Option(help="Of accuracy, these data alone.")] = None,
) -> None:
    """Draw accuracy against bytes again, from kept rows.

    Example: fedmq bench plot benchmarks/fedmq_bench/results/comm.jsonl --out comm.png
    """
    from fedmq_bench import options, report, rows
    from fedmq_bench.accuracy import plot as accuracies
    from fedmq_bench.comm import plot as plots

    options.require_picture(out)
    kept = list(rows.read_file(results))
    reached = [row for row in kept if row["case"] == "accuracy" and data in (None, row["dataset"])]
    if reached:
        accuracies.draw(reached, out)
    else:
        plots.draw(report.newest(row for row in kept if row["case"] == "comm"), out)
    typer.echo(f"drawn in {out}")
