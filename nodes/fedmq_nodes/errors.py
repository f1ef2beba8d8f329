"""What can be wrong with a node's own data; each a sentence and an exit code."""

from fedmq.errors import EXIT_INPUT, EXIT_REFUSED, LocalError


class DataUnusable(LocalError):
    """No images or features, or none whose class the federation knows."""

    reason = "data_unusable"
    exit_code = EXIT_INPUT


class CacheUnusable(LocalError):
    """The feature cache cannot be read or written."""

    reason = "cache_unusable"
    exit_code = EXIT_INPUT


class StateUnusable(LocalError):
    """The folder of a node's state is in use, or another node's, or cannot be made."""

    reason = "state_unusable"
    exit_code = EXIT_INPUT


class TargetLeaks(LocalError):
    """The features that a method adapts to are of images that this node measures accuracy on."""

    reason = "target_leaks"
    exit_code = EXIT_INPUT


class TaskUnknown(LocalError):
    """The aggregator asks for something that this node cannot do."""

    reason = "task_unknown"
    exit_code = EXIT_REFUSED
