"""Errors of the neural parts: a flat tree, each with a reason code that scripts can match and an exit code.

The command line catches whatever has an integer `exit_code` and prints its message, so this package needs no import of
the runtime. Codes: 1 a check did not pass, 2 wrong arguments, 3 an input, device or disk that cannot be used.
"""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INPUT = 3


class ModelError(Exception):
    """Anything that went wrong in a bundle, an encoder or an export. The message is for a person."""

    reason: str = "model_failed"
    exit_code: int = EXIT_FAILED


class OptionInvalid(ModelError):
    """An argument that cannot be what it is."""

    reason = "option_invalid"
    exit_code = EXIT_USAGE


class BundleUnreadable(ModelError):
    """A bundle that is missing, damaged or of an unknown format; the message names the file and the key."""

    reason = "bundle_unreadable"
    exit_code = EXIT_INPUT


class BundleMismatch(ModelError):
    """A file of a bundle that is not the one its manifest describes, or an array of another shape than the bundle's."""

    reason = "bundle_mismatch"
    exit_code = EXIT_INPUT


class BundleUnwritable(ModelError):
    """A place where a bundle cannot be put: it exists already, or the disk refuses."""

    reason = "bundle_unwritable"
    exit_code = EXIT_INPUT


class SourceUnreadable(ModelError):
    """Weights, an ONNX file or an array file that something should be made from, and that cannot be read."""

    reason = "source_unreadable"
    exit_code = EXIT_INPUT


class ImageUnreadable(ModelError):
    """An image that is corrupt, truncated, too large or of an unknown kind."""

    reason = "image_unreadable"
    exit_code = EXIT_INPUT


class DeviceMissing(ModelError):
    """A device that was asked for by name and is not there."""

    reason = "device_missing"
    exit_code = EXIT_INPUT


class RuntimeMissing(ModelError):
    """onnxruntime is not installed in any of its variants."""

    reason = "runtime_missing"
    exit_code = EXIT_INPUT


class ExportUnavailable(ModelError):
    """The packages that exporting needs are not installed."""

    reason = "export_unavailable"
    exit_code = EXIT_INPUT


class FeaturesNotFinite(ModelError):
    """An encoder whose output holds NaN or Inf."""

    reason = "features_not_finite"
    exit_code = EXIT_INPUT


class ParityFailed(ModelError):
    """An exported encoder that does not compute what its source computes."""

    reason = "parity_failed"
    exit_code = EXIT_FAILED


def first_line(fault: BaseException) -> str:
    """The first line of a library's error, which may be a page long."""
    lines = [line for line in str(fault).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(fault).__name__
