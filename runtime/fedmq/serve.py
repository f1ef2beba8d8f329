"""Serving: the aggregator's shell. It reads the clock, awaits the link, and has a thread that writes the ledger."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from fedmq import observe, terms
from fedmq.aggregator import Aggregator
from fedmq.control import Control
from fedmq.core import Core, Event
from fedmq.door import Admitted, Door
from fedmq.drive import Drive
from fedmq.effects import Done, Effect, Keep
from fedmq.errors import NotKept
from fedmq.folder import claim
from fedmq.ledger import Keeping, Ledger
from fedmq.plan import Job, Settings
from fedmq.record import LEDGER
from fedmq.status import Status, status
from fedmq.transports import Broadcasting, Link
from fedmq.watching import Overheard, Watcher


async def serve(
    settings: Settings,
    job: Job,
    keeping: Keeping,
    folder: Path,
    link: Link,
    stop: asyncio.Event,
    admitted: Admitted | None = None,
    kind: type[Ledger] = Ledger,
    watchers: Sequence[Watcher] = (),
) -> Done:
    """Run a federation in this folder until it has finished, or `stop` is set; go on where its ledger left off.

    admitted   who may be here, asked at every event; without it, whoever the link lets in
    kind       another ledger, for a benchmark that measures what one costs
    watchers   who looks on
    raises     LedgerUnusable if the folder is in use, another federation's, or cannot be written at the start; a disk
               that is full later is waited for
    """
    clock = asyncio.get_running_loop().time
    meta = {"federation": settings.federation, "feature_space": job.feature_space, "method": job.method}
    with claim(folder), ThreadPoolExecutor(1, "ledger") as thread:
        in_thread = partial(asyncio.get_running_loop().run_in_executor, thread)
        epoch = time.time() - clock()
        ledger = kind.open(
            folder / LEDGER, meta, job.notes, job.params, keeping, epoch, clock(), terms.written(settings)
        )
        try:
            rng = np.random.default_rng(secrets.randbits(64))
            origin = secrets.randbits(63) + 1 if isinstance(link, Broadcasting) else 0
            aggregator = Aggregator(settings, job, ledger.past(), rng, clock(), origin)

            async def kept(batch: Keep, writing: Awaitable[None]) -> Event:
                began_at = clock()
                try:
                    await writing
                except NotKept as error:
                    return partial(aggregator.unkept, batch.number, str(error))
                for watcher in watchers:
                    watcher.kept(batch.entries, clock() - began_at)
                return partial(aggregator.kept, batch.number)

            def perform(effect: Effect) -> Awaitable[Event]:
                assert isinstance(effect, Keep)
                # The thread begins now, and not when the loop next has time: frames may be waiting to be read.
                return kept(effect, in_thread(ledger.keep, effect.entries, clock()))

            def look() -> Status:
                return status(aggregator, clock())

            control = Control(folder, look)
            for watcher in watchers:
                watcher.begin(look)
            try:
                core: Core = aggregator if admitted is None else Door(aggregator, admitted)
                core = Overheard(core, watchers) if watchers else core
                drive = Drive(core, link, perform, observe.logger(federation=settings.federation), list)
                return await drive.run(stop)
            finally:
                for watcher in watchers:
                    watcher.end()
                await control.close()
        finally:
            await in_thread(ledger.close)
