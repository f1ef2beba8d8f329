"""Wiring: from settings to a running aggregator or node. What the commands do once their arguments are read."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from secrets import randbits

import numpy as np

from fedmq import observe
from fedmq.config import Federation, parse
from fedmq.effects import Done
from fedmq.errors import Refused
from fedmq.serve import serve
from fedmq_models import bundle as bundles
from fedmq_models.training import Training
from fedmq_nodes import links, pool, state, task, windows
from fedmq_nodes.begin import from_run
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.join import Pace, Shell
from fedmq_nodes.options import NodeOptions, user_cache
from fedmq_nodes.sources import Progress


async def serve_federation(federation: Federation, where: str, listening: Callable[[dict[str, str]], None]) -> Done:
    """Serve until the federation has finished or a signal comes.

    where         what to call the settings in an error
    listening     told the addresses by what is there ("listening" for nodes), once they can connect
    """
    training = parse(Training, federation.task, where, "task.")
    task.require_agreed(training, federation.codec.up, where)
    bundle = bundles.load(federation.bundle)
    job = task.job(bundle, training, pool=pool.published(training, bundle))
    if federation.start_from is not None:
        job = from_run(job, federation.start_from)
    with until_interrupted() as stop:
        hub = await links.hub(federation, np.random.default_rng(randbits(128)))
        try:
            async with windows.opened(federation.see, federation.run, hub.link) as (watchers, urls):
                listening({"listening": hub.address, **urls})
                return await serve(
                    federation, job, federation.keeping, federation.run, hub.link, stop, hub.admitted, watchers=watchers
                )
        finally:
            await hub.link.close()


async def join_federation(
    address: str, federation: str, options: NodeOptions, insecure: bool, progress: Progress
) -> Done:
    """Take part until the federation has finished or a signal comes.

    raises     Refused, with the aggregator's reason; what is wrong with this node's data
    """
    bundle = bundles.load(options.bundle)
    who = Introduction(
        federation=federation,
        name=options.name,
        feature_space=bundle.feature_space,
        dim=bundle.dim,
        methods=task.methods(options.train),
        software=f"fedmq {version('fedmq')}",
    )
    held = state.opened(
        options.state or user_cache() / "state",
        options.name,
        federation,
        bundle.feature_space,
        observe.logger(node=options.name),
    )
    with until_interrupted() as stop, held as kept, windows.measured(options.metrics) as meter:
        rng = np.random.default_rng(randbits(128))
        link = links.link(address, federation, options, insecure, rng)
        try:
            options.require_data()
            os.nice(options.nice)
            pace = Pace(options.examples_per_s)
            source, threads = options.source(bundle), options.threads or 1
            shell = Shell(
                who, source, options.split(), pace, threads, rng, progress, kept, meter, options.permit(),
                options.arrivals_s,
            )  # fmt: skip
            done = await shell.run(link if meter is None else meter.counted(link), stop)
        finally:
            await link.close()
    if done.refused:
        raise Refused(done.reason, f"the aggregator refuses this node ({done.reason}): {done.text}")
    return done


@contextmanager
def until_interrupted() -> Iterator[asyncio.Event]:
    """Yield an event that Ctrl-C or SIGTERM sets; a second one interrupts at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, interrupt)
    try:
        yield stop
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
