"""The encoder on a node: onnxruntime on one device, images in, features out, each image once.

On a CPU every core is a lane of its own: it decodes four images and encodes them with one thread. Measured on two cores
with PACS images of 227 x 227 and MobileNetV2, this gives 340 images/s, where one encoder that uses both cores behind a
pool of decoders gives 280; and with another process on one of the cores it gives 174 against 100. Threads inside one
matrix product wait for the slowest of them, lanes wait for nothing. Batches are small because the activations of four
images fit into a core's cache: on one core MobileNetV2 encodes 251 images/s in fours and 189 in batches of 32. ViT-B-32
does not mind: 45 images/s on two cores in fours, 46 in eights.

On a GPU one run at a time has the whole device, so the cores only decode. Its batch has a fixed shape, and the last one
is padded: onnxruntime prepares every new shape anew, which costs more than the padding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from fedmq_models.bundle import Bundle, Precision, digest, onnx_file
from fedmq_models.encode.bound import BoundRun
from fedmq_models.encode.devices import Device, open_session, parse_device, usable_cpus
from fedmq_models.encode.images import ImageSource
from fedmq_models.encode.stream import OnError, in_order
from fedmq_models.errors import BundleMismatch, FeaturesNotFinite, OptionInvalid

CPU_BATCH = 4
GPU_BATCH = 64


class Encoder:
    """A bundle's image encoder on a device.

    device     where it runs: cpu, cuda or tensorrt
    note       why `auto` did not take a better device, None if it did; the caller logs it
    batch      images per run
    threads    lanes on a CPU, decoders beside a GPU
    """

    def __init__(
        self,
        bundle: Bundle,
        device: Device | str = Device.AUTO,
        threads: int | None = None,
        batch: int | None = None,
    ) -> None:
        """Open the encoder of a bundle; its file is held against the manifest's digest first.

        raises     BundleUnreadable without an encoder; BundleMismatch for another file; DeviceMissing; RuntimeMissing
        """
        for name, value in (("threads", threads), ("batch", batch)):
            if value is not None and value < 1:
                raise OptionInvalid(f"{name} is {value}; it must be at least 1")
        path, file, how = bundle.encoder_path, bundle.encoder, bundle.preprocess
        assert file is not None
        assert how is not None  # a manifest has both or neither
        if changed := digest.problem(path, file.sha256):
            raise BundleMismatch(f"{path} {changed}; features of another encoder cannot be summed")
        opened = open_session(path, parse_device(str(device)), file.precision)
        self.bundle = bundle
        self.preprocess = how
        self.device = opened.device
        self.note = opened.note
        self.threads = threads or usable_cpus()
        self.batch = batch or (CPU_BATCH if opened.device is Device.CPU else GPU_BATCH)
        self._precision = file.precision
        self._dtype = np.dtype(np.float16 if file.precision is Precision.FP16 else np.float32)
        self._session = opened.session
        self._run: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
        if opened.device is Device.CPU:
            self._run = functools.partial(onnx_file.run, opened.session, file.input, file.output)
        else:
            shape = (self.batch, 3, how.size, how.size)
            self._run = BoundRun(opened.session, file.input, file.output, shape, bundle.dim, self._dtype)

    def __repr__(self) -> str:
        return f"<Encoder {self.bundle.name} on {self.device}, {self.threads} threads, batches of {self.batch}>"

    def encode(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Features (n, dim) float32 of pixels (n, 3, size, size) float32, times the bundle's scale.

        raises     BundleMismatch for another shape; FeaturesNotFinite
        """
        side = self.preprocess.size
        if pixels.shape[1:] != (3, side, side):
            raise BundleMismatch(
                f"pixels have shape {pixels.shape}, bundle {self.bundle.name} takes (n, 3, {side}, {side})"
            )
        pieces = [pixels[start : start + self.batch] for start in range(0, len(pixels), self.batch)]
        if self.device is Device.CPU and len(pieces) > 1 and self.threads > 1:
            with ThreadPoolExecutor(min(self.threads, len(pieces)), "fedmq-encode") as lanes:
                features = list(lanes.map(self.encode_batch, pieces))
        else:
            features = [self.encode_batch(piece) for piece in pieces]
        return np.concatenate(features) if features else np.empty((0, self.bundle.dim), dtype=np.float32)

    def encode_batch(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Features (n, dim) float32 of at most `batch` images, in one run on the calling thread."""
        found = self._run(pixels.astype(self._dtype, copy=False))
        features: npt.NDArray[np.float32] = found.astype(np.float32) * np.float32(self.bundle.scale)
        if features.shape != (len(pixels), self.bundle.dim):
            raise BundleMismatch(
                f"the encoder gives shape {features.shape} for {len(pixels)} images, bundle {self.bundle.name} says "
                f"dim {self.bundle.dim}; run fedmq bundle verify"
            )
        if not np.isfinite(features).all():
            rows = np.flatnonzero(~np.isfinite(features).all(axis=1))
            raise FeaturesNotFinite(
                f"the encoder of {self.bundle.name} ({self._precision}) gives NaN or Inf for {len(rows)} of "
                f"{len(pixels)} images; use a bundle in fp32"
            )
        return features

    def encode_files(
        self, sources: Iterable[ImageSource], on_error: OnError | None = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Decode and encode images, in order, with bounded memory: (positions (b,), features (b, dim)), piece by piece.

        sources      paths, or the bytes of files; read lazily, so there may be any number
        on_error     called as (position, source, ImageUnreadable) for each image that is skipped
        """
        return in_order(self, sources, on_error)
