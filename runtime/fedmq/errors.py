"""Errors: a flat tree, each with a reason code that scripts can match and an exit code that the command line returns.

`LocalError` is ours or our user's: it raises, and ends a command with a sentence. `RemoteError` is what a peer did: a
core catches it where the frame came in, answers with a reason, counts a strike and goes on.
"""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INPUT = 3
EXIT_REFUSED = 4
EXIT_NETWORK = 5
EXIT_INTERRUPTED = 130


class FedmqError(Exception):
    """Anything that fedmq says went wrong. `reason` is a stable code; the message is for a person."""

    reason = "failed"
    exit_code = EXIT_FAILED


class LocalError(FedmqError):
    """Our own fault, or our user's."""


class ConfigInvalid(LocalError):
    """A setting that does not exist, or has a value it cannot have."""

    reason = "config_invalid"
    exit_code = EXIT_USAGE


class ShapeMismatch(LocalError):
    """Two sets of arrays that do not have the same names and shapes."""

    reason = "shape_mismatch"


class LedgerUnusable(LocalError):
    """The run's record cannot be opened, read or written."""

    reason = "ledger_unusable"
    exit_code = EXIT_INPUT


class PayloadGone(LedgerUnusable):
    """A payload whose file is not there, or cannot be read."""


class NotKept(LedgerUnusable):
    """A batch that the disk would not take now; nothing of it is kept, and it may be tried again."""

    reason = "not_kept"


class KeyUnusable(LocalError):
    """A key file that is missing, malformed or readable by others."""

    reason = "key_unusable"
    exit_code = EXIT_INPUT


class AddressUnusable(LocalError):
    """An address that cannot be parsed, bound or reached."""

    reason = "address_unusable"
    exit_code = EXIT_NETWORK


class RemoteError(FedmqError):
    """A peer's fault."""

    exit_code = EXIT_REFUSED


class BadFrame(RemoteError):
    """Bytes that are not a message; `reason` says in which way."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class BadPayload(RemoteError):
    """A payload that its codec cannot be, whatever the envelope says."""

    reason = "bad_payload"


class Rejection(RemoteError):
    """An update that is not folded; `reason` is the code of its verdict."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Unexpected(RemoteError):
    """A well-formed message that this conversation cannot have now."""

    reason = "unexpected"


class Refused(RemoteError):
    """The other end refused us, for a reason that it named."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
