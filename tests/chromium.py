"""A headless Chromium that a test looks through, driven over its DevTools protocol."""

import asyncio
import base64
import itertools
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import aiohttp

PATIENCE_S = 120.0
LOOK_S = 0.05
PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WORDS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-default-apps", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-port=0", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip


class Browser:
    """One window. What its page says on the console, or asks of a network, is kept in `heard` and `asked`."""

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        self._runner = asyncio.Runner()
        self._log = profile.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([PROGRAM, *WORDS, f"--user-data-dir={profile}", "about:blank"], stderr=log)
        self.heard: list[str] = []
        self.asked: list[str] = []
        self._numbers = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._runner.run(self._connect())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._runner.run(self._close())
        finally:
            self._process.kill()
            self._process.wait()
            self._runner.close()

    def open(self, url: str, width: int = 1360, height: int = 900, dark: bool = False, phone: bool = False) -> None:
        """Go to an address with a window of this size."""
        self.size(width, height, phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def size(self, width: int, height: int, phone: bool = False) -> None:
        """Make the window this large."""
        scale = 2 if phone else 1
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(json.dumps(found["exceptionDetails"])[:1000])
        return found["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression in the page is true, and return it."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if found := self.evaluate(expression):
                return found
            time.sleep(LOOK_S)
        raise AssertionError(f"not true within {PATIENCE_S:.0f} s: {expression}; the page says\n{self.text()}")

    def text(self) -> str:
        """Return what can be read on the page."""
        return str(self.evaluate("document.body.innerText"))

    def picture(self, path: Path, whole: bool = True) -> Path:
        """Write what the page looks like."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser for something, and wait for it."""
        return self._runner.run(self._call(method, params))

    async def _connect(self) -> None:
        end = time.monotonic() + PATIENCE_S
        while not (found := re.search(r"ws://(127\.0\.0\.1:\d+)/", self._log.read_text(errors="replace"))):
            assert time.monotonic() < end, self._log.read_text(errors="replace")
            await asyncio.sleep(LOOK_S)
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://{found[1]}/json/list") as answer:
            (page, *_) = [one for one in await answer.json() if one["type"] == "page"]
        self._socket = await self._session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self._call(f"{domain}.enable", {})

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await asyncio.wait_for(self._socket.receive_json(), PATIENCE_S)
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.asked.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.heard.append(json.dumps(params["exceptionDetails"])[:600])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.heard.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))

    async def _close(self) -> None:
        await self._socket.close()
        await self._session.close()
