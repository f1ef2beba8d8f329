"""Errors of the benchmarks."""

from fedmq.errors import EXIT_INPUT, LocalError


class ResultsUnusable(LocalError):
    """Kept rows that are not there, cannot be read, or have nowhere to go."""

    reason = "results_unusable"
    exit_code = EXIT_INPUT


class ProgramMissing(LocalError):
    """A program that a benchmark runs beside ours is not installed."""

    reason = "program_missing"
    exit_code = EXIT_INPUT
