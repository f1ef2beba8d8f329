"""The commands of scenarios: what there are, one run, and policies compared."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedmq_bench.typed import typed

if TYPE_CHECKING:
    from fedmq_bench.scenario.real import Over
    from fedmq_bench.scenario.sweep import Runner

scenario = typer.Typer(
    no_args_is_help=True, help="Run a fleet that is slow, absent or dishonest, and compare policies."
)

What = Annotated[str, typer.Argument(metavar="FILE|PRESET", help="A scenario file, or the name of a preset.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of the file, such as stop.updates_per_node=10.")
]
Sim = Annotated[bool, typer.Option("--sim", help="In virtual time: the same cores, modelled links and times.")]
Real = Annotated[bool, typer.Option("--real", help="With real processes, each behind a link of its own, in real time.")]
Link = Annotated[str, typer.Option(help="What a real run goes over: zmq or mqtt.")]
Speed = Annotated[
    float | None, typer.Option(min=0.01, help="Run times so many times as fast as the file says; in place of its own.")
]
Untrained = Annotated[bool, typer.Option("--no-training", help="What the system does, without what is learned.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines for a script instead of text for a person.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Append the rows to this file.")]


@scenario.command("list")
def list_() -> None:
    """Name the presets, each with what it is.

    Example: fedmq scenario list
    """
    from fedmq_bench.scenario import file

    for name, sentence in file.presets().items():
        typer.echo(f"{name:22} {sentence}")


@scenario.command()
def run(
    ctx: typer.Context,
    what: What,
    policy: Annotated[
        str, typer.Option(help="sync, deadline, quorum, fedbuff, fedasync, cached, cached-small, or the file's own.")
    ] = "quorum",
    seed: Annotated[int | None, typer.Option(min=0, help="In place of the file's.")] = None,
    speed: Speed = None,
    overrides: Overrides = None,
    sim: Sim = False,
    real: Real = False,
    link: Link = "zmq",
    no_training: Untrained = False,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Run one scenario under one policy, in virtual time or for real.

    Example: fedmq scenario run heavy-stragglers --policy cached
    """
    from fedmq_bench import machine, rows
    from fedmq_bench.scenario import data, file, policies, simulated
    from fedmq_bench.scenario import real as reality

    over = _over(sim, real, link)
    found = file.read(what, _overridden(overrides, seed=seed, speed=speed))
    names = policies.named(policy, found)
    pool = data.pool(found.data.source, _say)

    def made(name: str) -> dict[str, Any]:
        if over is None:
            return simulated.run(found, name, pool, not no_training)
        about_s = simulated.run(found, name, pool, trains=False)["ended_s"]
        _say(f"{found.name} under {name}: about {about_s:.0f} s in real time")
        return reality.run(found, name, pool, not no_training, over, _say)

    rows.publish(map(made, names), machine.context(typed(ctx), found.seed), rows.Outlet("scenario", as_json, out=out))


@scenario.command()
def compare(
    ctx: typer.Context,
    what: What,
    policy: Annotated[
        str, typer.Option("--policies", help="sync, which the others are measured by, and any others.")
    ] = "sync,deadline,quorum,fedbuff,fedasync,cached",
    seeds: Annotated[int, typer.Option(min=1, help="How many, counted from the file's.")] = 5,
    processes: Annotated[int | None, typer.Option(min=1, help="At a time; default one for each core.")] = None,
    kept: Annotated[
        Path | None,
        typer.Option("--rows", metavar="FILE", help="Rows of runs: what it has is not run again. Default NAME.jsonl."),
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="The page, in HTML. Default NAME.html.")] = None,
    engine: Annotated[str, typer.Option(help="pool: processes of this machine; ray: a Ray cluster.")] = "pool",
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster; default one of this machine alone.")] = None,
    overrides: Overrides = None,
    sim: Sim = False,
    real: Real = False,
    link: Link = "zmq",
    no_training: Untrained = False,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Compare policies on the same draws, and say which to choose. Stopped with Ctrl-C, it goes on where it was.

    Example: fedmq scenario compare slow-rare-domain --policies sync,quorum,cached --seeds 3
    """
    from fedmq.errors import ConfigInvalid
    from fedmq_bench import machine, rows
    from fedmq_bench.scenario import advise, file, page, policies, sweep, told
    from fedmq_bench.scenario import compare as comparing

    found = file.read(what, overrides or [])
    names = policies.named(policy, found)
    over = _over(sim, real, link)
    many, kept = 1 if over else processes or machine.cores(), kept or Path(f"{found.name}.jsonl")
    tasks, context = sweep.tasks(found, names, seeds, not no_training, over), machine.context(typed(ctx), found.seed)
    comparing.require_sync(names)
    if over and (engine != "pool" or (processes or 1) > 1):
        raise ConfigInvalid("--real runs one after the other on this machine: leave out --engine and --processes")
    runner = _runner(engine, address, many)
    sweep.forecast(tasks, kept, many, _say)
    made = sweep.sweep(tasks, kept, runner, context, _say)
    figures = comparing.figures(made)
    rows.publish(figures, context, rows.Outlet("scenario", as_json, out=out))
    summaries = comparing.summaries(figures)
    advice = advise.advise(summaries)
    recipe = policies.recipe(found, advice.policy) if advice.policy else []
    where = page.write(made, summaries, advice, recipe, found.describe, context, report or Path(f"{found.name}.html"))
    written = ("in federation.toml:", *(f"  {line}" for line in recipe)) if recipe else ()
    typer.echo(told.table(figures), err=as_json)
    for line in (f"to choose: {advice.policy or 'none of these'}", *advice.reasons, *written, f"report: {where}"):
        typer.echo(line, err=as_json)


@scenario.command()
def agree(
    ctx: typer.Context,
    presets: Annotated[
        list[str] | None, typer.Argument(metavar="[PRESET|FILE]...", help="Which; default all presets.")
    ] = None,
    policy: Annotated[str, typer.Option("--policies", help="Under which policies.")] = "sync,fedbuff",
    speed: Speed = None,
    overrides: Overrides = None,
    as_json: Json = False,
    keep: Annotated[bool, typer.Option("--keep", help="Append the rows to this checkout's results.")] = False,
    out: Out = None,
) -> None:
    """Run presets with eight nodes in both engines, untrained, and say how far virtual time is from real time.

    Example: fedmq scenario agree homogeneous lost-uploads --policies sync
    """
    from fedmq_bench import machine, rows
    from fedmq_bench.scenario import agree as agreeing
    from fedmq_bench.scenario import data, file, policies

    few = [*agreeing.SHORT, *(overrides or [])]
    found = [agreeing.resized(file.read(what, _overridden(few, speed=speed))) for what in presets or file.presets()]
    cases = [(one, name) for one in found for name in policies.named(policy, one)]
    made = (agreeing.agreement(one, name, data.pool(one.data.source, _say), _say) for one, name in cases)
    told: list[rows.Row] = []
    outlet = rows.Outlet("agreement", as_json, keep, out)
    rows.publish(rows.noted(made, told), machine.context(typed(ctx), found[0].seed), outlet)
    typer.echo(agreeing.table(told), err=as_json)


def _over(sim: bool, real: bool, link: str) -> "Over | None":
    """Return what real runs go over; None is virtual time. Raises ConfigInvalid for both at once, or another link."""
    from fedmq.errors import ConfigInvalid
    from fedmq_bench.scenario.real import Over

    if sim and real:
        raise ConfigInvalid("--sim and --real are two ways to run; give one of them")
    over = Over.named(link)
    return over if real else None


def _runner(engine: str, address: str | None, processes: int) -> "Runner":
    """Return what runs the tasks of a sweep; raises ConfigInvalid for an engine that there is not."""
    from fedmq.errors import ConfigInvalid
    from fedmq_bench.scenario import on_ray, sweep

    if engine == "ray":
        return on_ray.rayed(address, processes)
    if engine != "pool" or address is not None:
        raise ConfigInvalid(f"--engine is {engine!r} and --address {address}; there are pool, and ray with an address")
    return sweep.pooled(processes)


def _overridden(overrides: list[str] | None, **given: object) -> list[str]:
    """Return the overrides, and those for which there is an option."""
    return [*(overrides or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]


def _say(line: str) -> None:
    typer.echo(line, err=True)
