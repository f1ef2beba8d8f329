"""Datasets: features to learn from, and how they are dealt out to nodes.

A file is what `fedmq join --features` and `fedmq bundle from-features --text` read, in one: features and labels, with a
split of its own or without, class names and class text. A column `domains` makes groups, and a node has one domain.
Without a file, images are drawn and encoded with the embedded tiny CLIP.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_bench.harness import Say
from fedmq_models import bundle as bundles
from fedmq_models.bundle import Bundle
from fedmq_models.examples import Examples
from fedmq_models.export import class_text
from fedmq_nodes.errors import DataUnusable
from fedmq_nodes.files import Choice, numbered, read
from fedmq_nodes.sources import Data

EMBEDDED = "tiny"
PER_CLASS = 60  # images of a class in a domain
DRAWN_FROM = 50_000  # beyond what the demo and its tests draw
NORM = 10.0  # of a feature as CLIP gives it, which FedCLIP's adapter expects; files tend to hold rows of norm 1
SKEW = 0.5  # of a class within a domain: Dirichlet's concentration (Hsu et al. 2019, arXiv:1909.06335)
TEST_SHARE = 0.2

Features = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Features (n, d), the class and the group of each, and which are for testing; None where that is ours to say."""

    features: Features = field(repr=False)
    labels: Numbers = field(repr=False)
    groups: Numbers = field(repr=False)
    tests: NDArray[np.bool_] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Dataset:
    """What is learned from; the bundle has the classes and their text."""

    name: str
    bundle: Bundle
    rows: Rows

    def deal(self, nodes: int, seed: int) -> list[Data]:
        """Deal the rows out: each node belongs to one group, and has more of some of its classes than of others.

        raises     DataUnusable if a node would have nothing to train on
        """
        rng = np.random.default_rng([seed, nodes])
        owners = _owners(self.rows, nodes, rng)
        tests = self.rows.tests
        if tests is None:
            tests = rng.random(len(owners)) < TEST_SHARE
        else:
            owners[tests] = rng.permutation(np.arange(int(tests.sum())) % nodes)
        dealt = []
        for node in range(nodes):
            train, test = np.flatnonzero((owners == node) & ~tests), np.flatnonzero((owners == node) & tests)
            if len(train) < 2:
                raise DataUnusable(f"{self.name} has {len(owners)} rows: too few for {nodes} nodes; ask for fewer")
            dealt.append(Data(self._examples(train), self._examples(test)))
        return dealt

    def _examples(self, rows: Numbers) -> Examples:
        return Examples(self.rows.features, rows, self.rows.labels[rows])


def load(path: Path | None, say: Say) -> Dataset:
    """Return the dataset in a file, or the embedded one."""
    return _embedded(say) if path is None else _file(path)


def _owners(rows: Rows, nodes: int, rng: Generator) -> Numbers:
    """Return the node of each row: nodes are dealt to groups in turn, and each class of a group is shared unevenly."""
    owners = np.empty(len(rows.labels), np.int64)
    groups = np.unique(rows.groups)
    for place, group in enumerate(groups):
        members = np.arange(nodes)[np.arange(nodes) % len(groups) == place % nodes]
        for label in np.unique(rows.labels):
            chosen = rng.permutation(np.flatnonzero((rows.groups == group) & (rows.labels == label)))
            shares = np.cumsum(rng.dirichlet(np.full(len(members), SKEW)))
            cuts = np.round(shares[:-1] * len(chosen)).astype(np.int64)
            for member, part in zip(members, np.split(chosen, cuts), strict=True):
                owners[part] = member
    return owners


def _file(path: Path) -> Dataset:
    names, text = class_text(path, drop_empty=True)
    parts: list[tuple[Features, Numbers, int, bool]] = []
    for group, choice in enumerate(_choices(path)):
        train, test = read(path, choice)
        for rows, is_test in ((train, False), *(((test, True),) if test else ())):
            known, labels = numbered(rows, names)
            parts.append((rows.features[known], labels, group, is_test))
    features = np.concatenate([part[0] for part in parts])
    counts = [len(part[1]) for part in parts]
    scale = NORM / float(np.linalg.norm(features, axis=1).mean())
    split = any(part[3] for part in parts)
    rows_ = Rows(
        (features * scale).astype(np.float32),
        np.concatenate([part[1] for part in parts]),
        np.repeat([part[2] for part in parts], counts),
        np.repeat([part[3] for part in parts], counts) if split else None,
    )
    return Dataset(path.stem, _bundle(path.stem, names, text), rows_)


def _choices(path: Path) -> Sequence[Choice]:
    """Return one choice per domain, or of all rows where there are none."""
    arrays: Any = np.load(path, allow_pickle=False) if path.suffix == ".npz" else {}
    return (
        [Choice({"domains": str(domain)}) for domain in np.unique(arrays["domains"])]
        if "domains" in arrays
        else [Choice({})]
    )


def _bundle(name: str, labels: Sequence[str], text: NDArray[Any]) -> Bundle:
    with tempfile.TemporaryDirectory(prefix="fedmq-bench-") as folder:
        return bundles.write(Path(folder) / "bundle", name=name, labels=labels, text=text, declared_space=name)


def _embedded(say: Say) -> Dataset:
    from PIL import Image

    from fedmq_models.encode import Encoder, pixels
    from fedmq_models.tiny.images import DOMAINS
    from fedmq_models.tiny.samples import drawn

    bundle = bundles.load(EMBEDDED)
    assert bundle.preprocess is not None
    encoder = Encoder(bundle, "cpu")
    features, labels = [], []
    for domain in DOMAINS:
        say(f"drawing and encoding images: {domain}")
        samples = drawn(domain, PER_CLASS, DRAWN_FROM)
        images = np.stack([pixels(Image.fromarray(each), bundle.preprocess) for each in samples.pixels])
        features.append(encoder.encode(images))
        labels.append(samples.labels)
    groups = np.repeat(np.arange(len(DOMAINS)), [len(part) for part in labels])
    return Dataset(EMBEDDED, bundle, Rows(np.concatenate(features), np.concatenate(labels), groups))
