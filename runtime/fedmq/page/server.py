"""The page's server: HTML, and a stream of events (SSE) to every browser that looks. It can be read, and nothing else.

It is told when something has happened, and then looks at the status and what is new in the ledger; where nobody is
there, it does neither. A browser that does not keep up is let go, and comes back for the whole.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from fedmq import observe
from fedmq.effects import Log
from fedmq.errors import AddressUnusable, LedgerUnusable
from fedmq.journal import Entry
from fedmq.page.document import Rows, Tree, document, patch
from fedmq.see import Place
from fedmq.story import Story
from fedmq.watching import Look

ASSETS = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js", "/charts.js": "charts.js"}
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
OWN_NAMES = ("localhost", "127.0.0.1", "[::1]")
MOST_BROWSERS = 32
QUEUED = 64  # patches that a browser may be behind
LEAST_PAUSE_S = 0.4
SHARE = 20  # of the loop's time, one part in so many is the page's at most
ALIVE_S = 15.0  # a comment now and then, so that a connection that is dead is noticed


class _Browser:
    """One that looks, and what it is still to be sent."""

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()

    def tell(self, frame: bytes) -> bool:
        """Queue a frame; return False for a browser that is too far behind, which is cut off."""
        if self._frames.qsize() >= QUEUED:
            if self._transport is not None:
                self._transport.abort()
            return False
        self._frames.put_nowait(frame)
        return True

    def leave(self) -> None:
        """Let it go once it was sent everything."""
        self._frames.put_nowait(None)

    async def next(self) -> bytes | None:
        """Return the next frame; None if there is to be none."""
        try:
            return await asyncio.wait_for(self._frames.get(), ALIVE_S)
        except TimeoutError:
            return b": still here\n\n"


class Page:
    """What one aggregator shows of itself; a watcher."""

    def __init__(self, ledger: Path, place: Place) -> None:
        self._ledger, self._place = ledger, place
        self._story: Story | None = None
        self._look: Look | None = None
        self._rows, self._document = Rows(), Tree()
        self._browsers: set[_Browser] = set()
        self._news, self._written = asyncio.Event(), True
        self._turn = asyncio.Lock()
        self._log = observe.logger()

    def begin(self, look: Look) -> None:
        """Show this aggregator from now on."""
        self._look, self._story = look, Story(self._ledger)
        self._news.set()

    def happened(self) -> None:
        """Look again, when there is time."""
        self._news.set()

    def kept(self, entries: Sequence[Entry], took_s: float) -> None:
        """Read what is new in the ledger, when there is time."""
        self._written = True
        self._news.set()

    def end(self) -> None:
        """Show how it ended."""
        self._news.set()

    async def close(self) -> None:
        """Tell every browser how it ended, and let them go."""
        await self.refresh()
        for browser in self._browsers:
            browser.leave()
        if self._story is not None:
            self._story.close()

    async def keep_telling(self) -> None:
        """Tell the browsers of news until cancelled, and never for more than a share of the time."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._news.wait()
            self._news.clear()
            began_at = clock()
            if self._browsers:
                await self.refresh()
            await asyncio.sleep(max(LEAST_PAUSE_S, SHARE * (clock() - began_at)))

    async def refresh(self) -> None:
        """Look, and send everyone what has changed."""
        async with self._turn:
            if self._written and self._story is not None:
                self._written = False
                try:
                    await asyncio.to_thread(self._story.advance)
                except LedgerUnusable as error:  # it may be readable again; the status is worth telling without it
                    self._log(Log("warning", "page.behind", {"text": str(error)}))
            if self._look is not None:
                self._publish(self._look())

    def application(self) -> web.Application:
        """Return what answers browsers."""
        app = web.Application(middlewares=[guard(self._place)])
        for path in ASSETS:
            app.router.add_get(path, _asset)
        app.router.add_get("/events", self._events)
        return app

    def _publish(self, status: Tree) -> None:
        assert self._story is not None
        found = document(status, self._story, self._rows, time.time())
        if change := patch(self._document, found):
            self._document = found
            frame = _event("change", change)
            self._browsers = {browser for browser in self._browsers if browser.tell(frame)}

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._browsers) >= MOST_BROWSERS:
            raise web.HTTPServiceUnavailable(text=f"{MOST_BROWSERS} browsers are looking already")
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        await self.refresh()
        browser = _Browser(request.transport)
        browser.tell(_event("whole", self._document))
        self._browsers.add(browser)
        try:
            while (frame := await browser.next()) is not None:
                await response.write(frame)
        except ConnectionError:
            pass  # it has gone
        finally:
            self._browsers.discard(browser)
        return response


def guard(place: Place) -> Middleware:
    """Return what refuses requests to another name: a page elsewhere may have its name point here (DNS rebinding)."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if place.is_private and name not in OWN_NAMES:
            raise web.HTTPForbidden(text=f"this page is {' or '.join(OWN_NAMES)}, not {name!r}")
        return await handler(request)

    return guarded


@asynccontextmanager
async def serving(ledger: Path, place: Place) -> AsyncIterator[tuple[Page, str]]:
    """Show an aggregator at this place meanwhile; yield the watcher, and the URL.

    raises     AddressUnusable if the place is taken, or not ours
    """
    page = Page(ledger, place)
    runner = web.AppRunner(page.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    telling = asyncio.ensure_future(page.keep_telling())
    try:
        site = web.TCPSite(runner, place.host, place.port)
        try:
            await site.start()
        except OSError as error:
            raise AddressUnusable(
                f"the page cannot be served at {place.host}:{place.port}: {error.strerror}; choose another port"
            ) from error
        yield page, place.url(runner.addresses[0][1])
    finally:
        telling.cancel()
        (ended,) = await asyncio.gather(telling, return_exceptions=True)
        await page.close()
        await runner.cleanup()
        if isinstance(ended, Exception):
            raise ended  # a defect of the page's, which did not end the federation


async def _asset(request: web.Request) -> web.Response:
    name = ASSETS[request.path]
    text = (files("fedmq.page") / "assets" / name).read_text(encoding="utf-8")
    return web.Response(text=text, content_type=KINDS[name.rpartition(".")[2]], charset="utf-8", headers=HEADERS)


def _event(name: str, tree: Tree) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'at': time.time(), 'tree': tree}, separators=(',', ':'))}\n\n".encode()
