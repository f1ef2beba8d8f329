"""Bundles: the folder that a federation freezes: encoder, class text features, labels, preprocessing, digests.

    bundle.json        the manifest: `manifest.py`
    text.safetensors   `text` (classes, dim) float32, rows of norm 1, row c belongs to labels[c]: `text.py`
    encoder.onnx       pixels (batch, 3, size, size) -> features (batch, dim): `onnx_file.py`; absent where nodes bring
                       features

`reading.py` and `writing.py` are the two ways between a folder and a `Bundle`, `verification.py` finds what is wrong
with one, `description.py` shows it, `encoding.py` says what turns an image into a feature and `digest.py` which feature
space that is, and `staging.py` keeps half a bundle from ever being there. Reading needs numpy, safetensors and pydantic
only, so an aggregator knows its classes without torch or onnxruntime.
"""

from fedmq_models.bundle.encoding import EncoderFile, Interpolation, Precision, Preprocess, Resize
from fedmq_models.bundle.reading import Bundle, load, reference
from fedmq_models.bundle.verification import verify
from fedmq_models.bundle.writing import ENCODER_FILE, EncoderSource, write

__all__ = [
    "ENCODER_FILE",
    "Bundle",
    "EncoderFile",
    "EncoderSource",
    "Interpolation",
    "Precision",
    "Preprocess",
    "Resize",
    "load",
    "reference",
    "verify",
    "write",
]
