"""Asking for a permit: the part that awaits a command, and reads the clock on the wall."""

import asyncio
import time
from asyncio.subprocess import DEVNULL
from collections.abc import Awaitable, Callable
from contextlib import suppress

from fedmq.effects import Log
from fedmq_nodes.permit import Permit

ASK_EVERY_S = 30.0
COMMAND_S = 30.0


async def refusal(permit: Permit) -> str:
    """Return why this device may not train now; empty if it may."""
    if permit.hours is not None:
        now = time.localtime()
        if not permit.hours.has(60 * now.tm_hour + now.tm_min):
            return f"not before {permit.hours.begin // 60:02}:{permit.hours.begin % 60:02}"
    if permit.command is not None:
        return await _told(permit.command)
    return ""


async def until_permitted(permit: Permit, cancelled: Callable[[], Awaitable[None]], log: Callable[[Log], None]) -> None:
    """Wait until this device may train, or nobody wants it to any more; the reason is logged when it is another one."""
    said = ""
    while permit.is_needed and (why := await refusal(permit)):
        if why != said:
            said = why
            log(Log("info", "training.deferred", {"reason": why}))
        with suppress(TimeoutError):
            await asyncio.wait_for(cancelled(), ASK_EVERY_S)
            return


async def _told(words: tuple[str, ...]) -> str:
    """Run the command; what cannot be run, or does not end, permits nothing."""
    try:
        process = await asyncio.create_subprocess_exec(*words, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    except OSError as error:
        return f"{words[0]} cannot be run: {error.strerror}"
    try:
        code = await asyncio.wait_for(process.wait(), COMMAND_S)
    except TimeoutError:
        return f"{words[0]} did not end in {COMMAND_S:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return f"{words[0]} says no, with exit code {code}" if code else ""
