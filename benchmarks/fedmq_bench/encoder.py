"""Encoder: images per second of a node's encoder (ONNX) beside the same weights in eager PyTorch.

Two rows. `encode` starts from pixels in memory. `files` starts from JPEG files, on a node as it encodes a folder, in
PyTorch as one writes it with care: open_clip's own transform, the next batch decoded by a pool of as many threads while
this one is encoded. Both sides have the same threads, precision and random weights.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedmq_bench import machine
from fedmq_bench.harness import Pair, Say, figures, in_turns
from fedmq_models import export
from fedmq_models.bundle import Precision
from fedmq_models.encode import Encoder
from fedmq_models.errors import DeviceMissing
from fedmq_models.export import clip

if TYPE_CHECKING:
    from torch import Tensor

TORCH_BATCH = 32
SIDE = 256
QUALITY = 90


@dataclass(frozen=True)
class Setup:
    """device: cpu or cuda; threads: of either side, None is every core; precision: of weights and activations."""

    model: str = "ViT-B-32"
    device: str = "cpu"
    precision: str = "fp32"
    threads: int | None = None
    images: int = 64


def measure(setup: Setup, repeats: int, seed: int, say: Say) -> Iterator[dict[str, Any]]:
    """Yield the row of `encode`, then that of `files`.

    raises     ExportUnavailable without the export extra, RuntimeMissing without onnxruntime, DeviceMissing
    """
    import torch

    if setup.device == "cuda" and not torch.cuda.is_available():
        raise DeviceMissing("PyTorch finds no CUDA device here; fedmq bench encoder --device cpu runs without one")
    say(f"building {setup.model} with random weights, and exporting it")
    made = clip.load(setup.model, None, seed)
    with machine.torch_threads(setup.threads) as threads, tempfile.TemporaryDirectory(prefix="fedmq-bench-") as folder:
        yield from _both(made, replace(setup, threads=threads), repeats, seed, say, Path(folder))


def _both(made: clip.Clip, setup: Setup, repeats: int, seed: int, say: Say, folder: Path) -> Iterator[dict[str, Any]]:
    how, rng = made.preprocess, np.random.default_rng(seed)
    bundle = export.from_clip(
        made, labels=("dog", "cat"), out=folder / "bundle", name="bench", precision=Precision(setup.precision)
    )
    onnx, eager = Encoder(bundle, setup.device, setup.threads), Eager(made, setup)
    pixels = rng.standard_normal((setup.images, 3, how.size, how.size), dtype=np.float32)
    shared = {
        "case": "encoder",
        **asdict(setup),
        "onnx_batch": onnx.batch,
        "torch_batch": TORCH_BATCH,
        "cosine": _cosine(onnx.encode(pixels[:4]), eager.encode(pixels[:4])),
    }
    say(f"{setup.images} images from memory, {setup.threads} threads")
    turns = in_turns(lambda: onnx.encode(pixels), lambda: eager.encode(pixels), repeats, say=say)
    yield {**shared, "stage": "encode", **_rates(turns, setup.images)}

    files = photographs(folder, setup.images, rng)
    say(f"{setup.images} images from JPEG files of {SIDE} x {SIDE}, {setup.threads} threads")
    turns = in_turns(lambda: list(onnx.encode_files(files)), lambda: eager.encode_files(files), repeats, say=say)
    yield {**shared, "stage": "files", **_rates(turns, setup.images)}


class Eager:
    """The same weights in eager PyTorch."""

    def __init__(self, made: clip.Clip, setup: Setup) -> None:
        import torch
        from open_clip import image_transform

        how = made.preprocess
        self._threads = setup.threads
        self._type = torch.float16 if setup.precision == Precision.FP16 else torch.float32
        self._device = torch.device(setup.device)
        self._visual = made.model.visual.to(self._device, self._type)
        self._transform: Callable[[Any], Tensor] = image_transform(
            how.size, is_train=False, mean=how.mean, std=how.std, interpolation=str(how.interpolation)
        )

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return features (n, dim) of pixels (n, 3, size, size), in batches."""
        import torch

        starts = range(0, len(pixels), TORCH_BATCH)
        return np.concatenate([self._features(torch.from_numpy(pixels[at : at + TORCH_BATCH])) for at in starts])

    def encode_files(self, files: Sequence[Path]) -> NDArray[np.float32]:
        """Return features (n, dim) of image files; the pool reads ahead while a batch is encoded."""
        import torch

        batches = [files[start : start + TORCH_BATCH] for start in range(0, len(files), TORCH_BATCH)]
        features = []
        with ThreadPoolExecutor(self._threads) as pool:
            ahead = [pool.submit(self._read, file) for file in batches[0]]
            for after in [*batches[1:], []]:
                now, ahead = ahead, [pool.submit(self._read, file) for file in after]
                features.append(self._features(torch.stack([read.result() for read in now])))
        return np.concatenate(features)

    def _read(self, file: Path) -> "Tensor":
        from PIL import Image

        with Image.open(file) as image:
            return self._transform(image)

    def _features(self, batch: "Tensor") -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            found: NDArray[np.float32] = self._visual(batch.to(self._device, self._type)).float().cpu().numpy()
        return found


def photographs(folder: Path, count: int, rng: np.random.Generator) -> list[Path]:
    """Write JPEG files that are about as hard to decode as photographs: coarse shapes, fine noise on top."""
    from PIL import Image

    files = []
    for number in range(count):
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
        files.append(folder / f"{number:04}.jpg")
        Image.fromarray(noisy).save(files[-1], quality=QUALITY)
    return files


def _rates(turns: Pair, images: int) -> dict[str, float]:
    return {
        "onnx_images_per_s": images / turns.median_s,
        "torch_images_per_s": images / turns.other_s,
        **figures(turns, faster=True),
    }


def _cosine(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Return the smallest cosine between rows: that both sides compute the same thing."""
    product = (left.astype(np.float64) * right).sum(axis=1)
    return float((product / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)).min())
