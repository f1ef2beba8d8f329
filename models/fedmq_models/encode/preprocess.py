"""From an image to an encoder's input, with Pillow and numpy only, bit for bit what open_clip's transform gives.

The order is torchvision's: resize and crop in the image's own mode, and only then convert to RGB. It matters for
palette images (resized by nearest neighbour) and for transparent ones. Orientation tags are not applied, as there.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from PIL import Image
from structlog.contextvars import bound_contextvars

from fedmq_models.bundle import Interpolation, Preprocess, Resize
from fedmq_models.encode.images import ImageSource, open_image
from fedmq_models.errors import ImageUnreadable

_FILTERS = {
    Interpolation.BICUBIC: Image.Resampling.BICUBIC,
    Interpolation.BILINEAR: Image.Resampling.BILINEAR,
}
# An image of one row of pixels would be enlarged to gigabytes before the crop.
RATIO_LIMIT = 100


def pixels(image: Image.Image, how: Preprocess, out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
    """Pixels (3, size, size) float32 of an image of any mode and shape.

    out        where to write them, as a row of a batch is; a new array otherwise
    raises     ImageUnreadable for a mode that cannot become RGB, or a side more than 100 times the other
    source     torchvision Resize and CenterCrop rounding, which rounds the crop's corner half to even
    """
    try:
        square = _square(image, how)
        if square.mode == "P" and isinstance(square.info.get("transparency"), bytes):
            del square.info["transparency"]  # Pillow warns about it on the way to RGB, where it is dropped anyway
        levels = np.asarray(square.convert("RGB"))
    except (ValueError, OSError) as fault:
        raise ImageUnreadable(f"image of mode {image.mode} cannot be resized: {fault}") from fault
    values = np.empty((3, how.size, how.size), dtype=np.float32) if out is None else out
    mean, std = _moments(how)
    # Three passes in place, in the order of torch's own, so that the last bit is the same; one fused multiply-add over
    # the channel-last array took four times as long.
    np.copyto(values, levels.transpose(2, 0, 1))
    values /= np.float32(255)
    values -= mean
    values /= std
    return values


def read_pixels(
    source: ImageSource, how: Preprocess, out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Pixels (3, size, size) float32 of an image file: `open_image`, then `pixels`.

    Of what Pillow warns of meanwhile, damaged EXIF data above all, nothing touches the pixels; `path` is bound to the
    logging context, so that whoever logs warnings can name the file.

    raises     ImageUnreadable, naming the file
    """
    name = "image" if isinstance(source, bytes) else str(source)
    with bound_contextvars(path=name):
        image = open_image(source)
        try:
            return pixels(image, how, out)
        except ImageUnreadable as fault:
            raise ImageUnreadable(f"{name}: {fault}") from fault


def _square(image: Image.Image, how: Preprocess) -> Image.Image:
    size, resample = how.size, _FILTERS[how.interpolation]
    if how.resize is Resize.SQUASH:
        return image.resize((size, size), resample)
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if long > RATIO_LIMIT * short:
        raise ImageUnreadable(f"image is {width}x{height}; one side is more than {RATIO_LIMIT} times the other")
    long_after = int(size * long / short)
    resized = image.resize((size, long_after) if width <= height else (long_after, size), resample)
    left, top = (round((side - size) / 2.0) for side in resized.size)
    return resized.crop((left, top, left + size, top + size))


@functools.lru_cache(maxsize=8)
def _moments(how: Preprocess) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    mean = np.array(how.mean, dtype=np.float32).reshape(3, 1, 1)
    std = np.array(how.std, dtype=np.float32).reshape(3, 1, 1)
    return mean, std
