"""Corpora: features with labels, whose they are, and which encoder gave them.

Two files of features are known by name, with their encoders; any other file that `fedmq join --features` and
`fedmq bundle from-features --text` read will do. A column `domains` says whose a row is. Where the file is split into
train, val and test, that is kept.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq_bench.comm import datasets
from fedmq_bench.harness import Say
from fedmq_bench.machine import CHECKOUT
from fedmq_models.classifier import normalised
from fedmq_models.export import class_text
from fedmq_nodes.errors import DataUnusable

TRAIN, VALIDATION, TEST = range(3)
EVERYBODY = "all"  # whose rows are, where a file does not say
CLIP_SCALE = 100.0

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """A file that this project knows.

    stand_in     whether the encoder is not CLIP but stands for it
    all_classes  also those that have no text
    """

    file: str
    encoder: str
    stand_in: bool
    all_classes: bool = False


KNOWN = {
    "pacs": Known(
        "pacs_features_mobilenet_v2_clip.npz", "MobileNetV2 with a linear map into the space of CLIP ViT-B/32", True
    ),
    "caltech": Known("caltech101_features_clip_vitb32.npz", "CLIP ViT-B/32", False),
    "caltech-all": Known("caltech101_features_clip_vitb32.npz", "CLIP ViT-B/32", False, all_classes=True),
}
EMBEDDED = "embedded"


@dataclass(frozen=True)
class Corpus:
    """What is learned from.

    stand_in    None where nobody said
    text        (classes, dim), rows of norm 1; of zeros for a class that has none
    features    (n, dim), of the norm that FedCLIP's adapter expects
    numbers     (n,) the class of each
    groups      (n,) the domain of each
    parts       (n,) TRAIN, VALIDATION or TEST; None where that is ours to say
    """

    name: str
    encoder: str
    stand_in: bool | None
    labels: tuple[str, ...]
    logit_scale: float
    text: Floats = field(repr=False)
    features: Floats = field(repr=False)
    numbers: Numbers = field(repr=False)
    groups: NDArray[np.str_] = field(repr=False)
    parts: NDArray[np.int64] | None = field(default=None, repr=False)

    @property
    def has_text(self) -> bool:
        """Whether every class has a text feature."""
        return bool(self.text.any(axis=1).all())


def load(name: str, say: Say) -> Corpus:
    """Return a corpus that is known by name, or that of a file.

    raises     DataUnusable, with where it was looked for
    """
    if name == EMBEDDED:
        return _embedded(say)
    if name not in KNOWN:
        return _file(Path(name), Path(name).stem, Path(name).stem, None, drop_empty=True)
    known = KNOWN[name]
    return _file(folder() / known.file, name, known.encoder, known.stand_in, drop_empty=not known.all_classes)


def folder() -> Path:
    """Return where the known files lie: FEDMQ_DATA, or the folder `shared/data` beside the checkout."""
    return Path(os.environ.get("FEDMQ_DATA") or CHECKOUT.parent / "shared" / "data")


def _file(path: Path, name: str, encoder: str, stand_in: bool | None, *, drop_empty: bool) -> Corpus:
    if not path.is_file():
        raise DataUnusable(
            f"{path} is not a file; --data is {', '.join(KNOWN)} (of the folder FEDMQ_DATA), {EMBEDDED}, or a file of "
            "features, labels, class names and class text"
        )
    labels, text = class_text(path, drop_empty=drop_empty)
    with np.load(path, allow_pickle=False) as file:
        arrays: dict[str, NDArray[Any]] = {key: file[key] for key in file.files}
    names = list(map(str, arrays["classes"]))
    kept = np.array([labels.index(each) if each in labels else -1 for each in names])
    prefixes = [prefix for prefix in ("", "train_", "val_", "test_") if f"{prefix}features" in arrays]
    if not prefixes:
        raise DataUnusable(f"{path} holds {', '.join(arrays)}; needed are features and labels")
    features = np.concatenate([arrays[f"{prefix}features"] for prefix in prefixes]).astype(np.float32)
    numbers = kept[np.concatenate([arrays[f"{prefix}labels"] for prefix in prefixes]).astype(np.int64)]
    counts = [len(arrays[f"{prefix}labels"]) for prefix in prefixes]
    groups = arrays.get("domains", np.full(sum(counts), EVERYBODY)).astype(str)
    parts = np.repeat([("train_", "val_", "test_").index(prefix) for prefix in prefixes if prefix], counts)
    rows = numbers >= 0
    features *= datasets.NORM / float(np.linalg.norm(features, axis=1).mean())
    return Corpus(
        name,
        encoder,
        stand_in,
        labels,
        CLIP_SCALE,
        normalised(text),
        np.ascontiguousarray(features[rows]),
        numbers[rows],
        groups[rows],
        parts[rows] if len(prefixes) > 1 else None,
    )


def _embedded(say: Say) -> Corpus:
    from fedmq_models.tiny.images import DOMAINS

    made = datasets.load(None, say)
    names = np.array(DOMAINS)[made.rows.groups]
    return Corpus(
        EMBEDDED,
        "the tiny CLIP",
        True,
        made.bundle.labels,
        made.bundle.logit_scale,
        made.bundle.text,
        made.rows.features,
        made.rows.labels,
        names.astype(str),
    )
