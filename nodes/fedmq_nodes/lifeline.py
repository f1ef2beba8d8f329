"""A lifeline: a process ends soon after the one that started it, however that ended, SIGKILL included.

The parent holds the other end of the child's standard input and never writes to it. When the parent is gone, whatever
ended it, the kernel closes that end, and the child reads the end of its input. It then does to itself what the parent
would have done: SIGTERM, and after half a minute SIGKILL.

Linux could send a signal by itself (prctl, PR_SET_PDEATHSIG), but nothing else can, it is sent when the parent's thread
ends rather than the parent, and a parent that dies before the child has asked for it is never noticed.
"""

import os
import signal
import threading
from multiprocessing import parent_process
from multiprocessing.connection import wait

STOPPED_WITHIN_S = 30.0
STANDARD_INPUT = 0


def hold() -> None:
    """End this process once its standard input ends. Whoever has one that ends at once must not ask for it."""
    threading.Thread(target=_end_with_input, name="lifeline", daemon=True).start()


def hold_worker() -> None:
    """End this process once the one that it is a multiprocessing worker of has ended; it has nothing to lose."""
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()


def _end_with_input() -> None:
    while os.read(STANDARD_INPUT, 4096):
        pass  # nobody is expected to write
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(STOPPED_WITHIN_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
