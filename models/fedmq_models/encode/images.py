"""Opening images that anyone may have put there: limits before parsing, one named error for all that can be wrong."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from fedmq_models.errors import ImageUnreadable

ImageSource = Path | str | bytes

PIXELS_LIMIT = 64_000_000
FILE_LIMIT_BYTES = 256 << 20
# Photographs and drawings. Not EPS, which Pillow hands to Ghostscript; not TIFF, whose library prints what it finds
# wrong to standard error, without the file's name; nor the formats that only archives hold.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM")

# What Pillow's decoders raise on hostile bytes. 1.7 million mutated files raised the first four of these (and Warning,
# where warnings are errors); the others stand in the decoders' source.
_DECODER_FAULTS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    MemoryError,
    RuntimeError,
    Warning,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_header_lock = threading.Lock()


def open_image(source: ImageSource) -> Image.Image:
    """Read an image completely, its first frame if it has several.

    source     a path, or the bytes of a file
    raises     ImageUnreadable, naming the file and the reason
    """
    name = "image" if isinstance(source, bytes) else str(source)
    try:
        # The bytes are read first: decoding from memory is not slower, and a file that changes meanwhile is one thing.
        content = source if isinstance(source, bytes) else _read(Path(source))
        with _own_limit():
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        pixels = image.width * image.height
        if pixels > PIXELS_LIMIT:
            raise ImageUnreadable(
                f"{name} has {image.width}x{image.height} = {pixels} pixels, limit is {PIXELS_LIMIT}; make it smaller"
            )
        if pixels == 0:
            raise ImageUnreadable(f"{name} has no pixels: {image.width}x{image.height}")
        image.load()
    except _DECODER_FAULTS as fault:
        raise ImageUnreadable(f"{name} cannot be read: {_reason(fault)}") from fault
    return image


def _read(path: Path) -> bytes:
    size_bytes = path.stat().st_size
    if size_bytes > FILE_LIMIT_BYTES:
        raise ImageUnreadable(f"{path} has {size_bytes} bytes, limit is {FILE_LIMIT_BYTES}")
    return path.read_bytes()


@contextmanager
def _own_limit() -> Iterator[None]:
    """Read a header without Pillow's own size check, which warns where we refuse.

    The check has one global switch, and `warnings.catch_warnings` is not safe among threads: so headers are read one
    at a time (tens of microseconds), and pixels, which take milliseconds, in parallel.
    """
    with _header_lock:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _reason(fault: BaseException) -> str:
    if isinstance(fault, UnidentifiedImageError):
        return f"its bytes are none of {', '.join(FORMATS)}"
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    return f"{fault}" or type(fault).__name__
