"""Windows: what an aggregator or a node shows of itself over HTTP, if asked to. What that takes is loaded then."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fedmq import observe
from fedmq.effects import Log
from fedmq.errors import ConfigInvalid
from fedmq.record import LEDGER
from fedmq.see import Place, See, place
from fedmq.transports import Link
from fedmq.watching import Watcher

if TYPE_CHECKING:
    from fedmq_nodes.meter import Meter


@asynccontextmanager
async def opened(see: See, run: Path, link: Link) -> AsyncIterator[tuple[Sequence[Watcher], dict[str, str]]]:
    """Open an aggregator's windows; yield who looks through them, and their URLs by name.

    run        the folder of its ledger
    link       its end of it
    raises     AddressUnusable; ConfigInvalid if what the page takes is not installed
    """
    watchers: list[Watcher] = []
    urls: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        if see.metrics:
            from fedmq.metrics import aggregator, endpoint

            where = _told(place("see.metrics", see.metrics), "metrics")
            meter = aggregator.Meter(endpoint.from_loop, link.tally)
            urls["metrics"] = stack.enter_context(endpoint.serving(meter.registry, where))
            watchers.append(meter)
        if see.page:
            where = _told(place("see.page", see.page), "page")
            page, urls["page"] = await stack.enter_async_context(_page(run / LEDGER, where))
            watchers.append(page)
        yield watchers, urls


@contextmanager
def measured(metrics: str | None) -> "Iterator[Meter | None]":
    """Yield what measures a node, and answers for it meanwhile; None if that was not asked for.

    raises     AddressUnusable
    """
    if metrics is None:
        yield None
        return
    from fedmq.metrics import endpoint
    from fedmq_nodes.meter import Meter

    where, meter = _told(place("metrics", metrics), "metrics"), Meter(endpoint.from_loop)
    with endpoint.serving(meter.registry, where) as url:
        observe.logger()(Log("info", "metrics.served", {"url": url}))
        yield meter


def _page(ledger: Path, where: Place) -> AbstractAsyncContextManager[tuple[Watcher, str]]:
    try:
        from fedmq.page.server import serving
    except ModuleNotFoundError as error:
        raise ConfigInvalid(f"the live page needs {error.name}: pip install 'fedmq[page]'") from error
    return serving(ledger, where)


def _told(where: Place, what: str) -> Place:
    """Return the place, and warn if others can look in: it asks nobody who they are."""
    if not where.is_private:
        text = f"the {what} can be read by whoever reaches {where.host}; an address of this machine alone is safer"
        observe.logger()(Log("warning", "window.open", {"address": f"{where.host}:{where.port}", "text": text}))
    return where
