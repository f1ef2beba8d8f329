"""Using what a run has learned: evaluate it on other data, classify images with it, export it for a device.

Where nodes have parts of their own, that is what they share, unless the state of a node is named too.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq.errors import ConfigInvalid
from fedmq.plan import CAVEAT
from fedmq.record import EVALUATIONS, LEDGER, Record
from fedmq_models import bundle as bundles
from fedmq_models import classifier
from fedmq_models.bundle import Bundle
from fedmq_models.encode import Encoder
from fedmq_models.examples import Examples
from fedmq_models.export import export_adapted
from fedmq_models.head import BIAS, Head, affine, solved
from fedmq_models.method import Method
from fedmq_models.methods import logits, method, version_0
from fedmq_nodes import own_head, state
from fedmq_nodes.sources import Progress, Source, Split


@dataclass(frozen=True)
class Learned:
    """One version of a run, and the bundle that it goes with.

    params     all of the method's
    """

    version: int
    params: Mapping[str, NDArray[np.float32]]
    how: Method
    bundle: Bundle
    caveat: str = ""

    @classmethod
    def of(
        cls, run: Path, version: int | None = None, bundle: str | None = None, personal: Path | None = None
    ) -> "Learned":
        """Read a version of a run, the newest unless told.

        bundle     where the run's bundle lies now, if it was moved
        personal   the folder of one node's state, to use the part that it keeps to itself as well
        raises     LedgerUnusable, BundleUnreadable; ConfigInvalid if the bundle is another one; StateUnusable
        """
        with Record.open(run / LEDGER) as record:
            meta = record.meta()
            number, params = record.params(version)
        if not (place := bundle or meta.get("bundle")):
            raise ConfigInvalid(f"{run} does not say which bundle it goes with; name it with --bundle")
        found = bundles.load(place)
        if found.feature_space != meta["feature_space"]:
            raise ConfigInvalid(
                f"{run} was trained in feature space {meta['feature_space'][:16]}, "
                f"bundle {found.name} has {found.feature_space[:16]}; name the run's own with --bundle"
            )
        how = method(meta["method"])
        whole = version_0(how, found.text, found.logit_scale, np.random.default_rng(0)) | params.named()
        if personal is not None:
            whole |= state.personal(personal, meta.get("run", "")).named()
        return cls(number, whole, how, found, meta.get(CAVEAT, ""))

    def logits(self, features: NDArray[np.float32], adapted: bool = True) -> NDArray[np.float32]:
        """Return logits (n, classes) of features (n, dim), through the adapter or without it."""
        text, scale = self.bundle.text, self.bundle.logit_scale
        if not adapted:
            return classifier.logits(features, text, scale)
        return logits(self.how, self.params, features, text, scale)

    def export(self, out: Path) -> Path:
        """Write one ONNX file, pixels to logits, that plain onnxruntime runs."""
        middle = self.how.middle(self.params)
        head = affine(self.params, self.bundle.text, self.bundle.logit_scale)
        return export_adapted(self.bundle, middle, out, version=self.version, method=self.how.name, head=head)


def with_own_head(learned: Learned, source: Source, split: Split, progress: Progress) -> dict[str, Any]:
    """Return the accuracy on the test split of a source, frozen, federated, and with a head of this source's own.

    raises     ConfigInvalid unless the run has solved a ridge head
    """
    if learned.how.head is not Head.SOLVED or learned.params[BIAS].any():
        raise ConfigInvalid("an own head is solved from a ridge head (task.method = 'statistics', statistics.head)")
    data = source.load(learned.bundle.labels, split, progress)
    features, labels = data.test.batch(slice(None)), data.test.labels
    own = solved(own_head.head(learned.params, data.train), features)
    found = {"zero_shot": learned.logits(features, False), "federated": learned.logits(features), "personal": own}
    return {
        "version": learned.version,
        "examples": len(labels),
        **{name: round(float((logits.argmax(axis=1) == labels).mean()), 4) for name, logits in found.items()},
    }


def evaluate(learned: Learned, source: Source, progress: Progress) -> dict[str, Any]:
    """Return the accuracy on all examples of a source, frozen and federated, in all and per class."""
    data = source.load(learned.bundle.labels, Split(train=False), progress)
    examples = data.test
    right = {adapted: _right(learned, examples, adapted) for adapted in (False, True)}

    def shares(mask: NDArray[np.bool_]) -> dict[str, Any]:
        return {
            "examples": int(mask.sum()),
            "zero_shot": round(float(right[False][mask].mean()), 4),
            "federated": round(float(right[True][mask].mean()), 4),
        }

    classes = [(label, examples.labels == number) for number, label in enumerate(learned.bundle.labels)]
    return {
        "version": learned.version,
        "caveat": learned.caveat,
        **shares(np.ones(len(examples), np.bool_)),
        "classes": {label: shares(mask) for label, mask in classes if mask.any()},
        "skipped": data.skipped,
    }


def note(run: Path, name: str, found: dict[str, Any]) -> None:
    """Note an evaluation in the run's folder, so that its report shows it."""
    row = {key: found[key] for key in ("version", "examples", "zero_shot", "federated")}
    with (run / EVALUATIONS).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"name": name, **row}) + "\n")


def _right(learned: Learned, examples: Examples, adapted: bool) -> NDArray[np.bool_]:
    parts = [
        learned.logits(examples.batch(chosen), adapted).argmax(axis=1) == examples.labels[chosen]
        for chosen in examples.chunks()
    ]
    return np.concatenate(parts)


def classify(learned: Learned, images: Sequence[Path], device: str, most: int) -> Iterator[dict[str, Any]]:
    """Yield per image its likeliest labels with their probabilities, or the error that kept it from being read."""
    encoder = Encoder(learned.bundle, device)
    errors: dict[int, str] = {}
    found: dict[int, NDArray[np.float32]] = {}
    for positions, features in encoder.encode_files(images, lambda at, _source, why: errors.update({at: str(why)})):
        shares = classifier.probabilities(learned.logits(features))
        found.update(zip(positions.tolist(), shares, strict=True))
    for at, path in enumerate(images):
        if at in errors:
            yield {"image": str(path), "error": errors[at]}
            continue
        best = np.argsort(-found[at])[:most]
        labels = [{"label": learned.bundle.labels[i], "probability": round(float(found[at][i]), 4)} for i in best]
        yield {"image": str(path), "version": learned.version, "labels": labels}
