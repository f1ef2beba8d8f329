"""The shipped bundle, made from the trained folder: nodes encode with it and need neither torch nor open_clip.

The encoder's weights are stored in fp16 and cast to fp32 when onnxruntime loads them: half the bytes and fp32
arithmetic, where fp16 arithmetic would need other kernels on every device. The exporter folds normalisation into the
convolutions, so this rounds once more than the folder did; parity is measured after it.
"""

import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from fedmq_models import bundle
from fedmq_models.bundle import Precision
from fedmq_models.bundle.digest import sha256_file
from fedmq_models.bundle.onnx_file import signature
from fedmq_models.export import clip, parity, tracing
from fedmq_models.tiny import model
from fedmq_models.tiny.images import CLASSES

NAME: Final = "tiny"


def pack(trained: Path, out: Path) -> bundle.Bundle:
    """Make the bundle of the trained folder at `out`, in the place of one that may be there.

    raises     ParityFailed if the exported encoder is not what torch computes; nothing is changed then
    """
    made = clip.Clip(
        model.load(trained).requires_grad_(False),
        model.tokenizer(trained),
        model.PREPROCESS,
        {"model": "fedmq tiny CLIP", "weights_sha256": sha256_file(trained / model.WEIGHTS)},
    )
    tower = tracing.tower(made.model.visual, Precision.FP32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / bundle.ENCODER_FILE
        tracing.trace(tower, model.PREPROCESS.size, Precision.FP32, path)
        store_as_fp16(path)
        report = parity.measure(tracing.reference(tower), signature(path).run, model.PREPROCESS)
        return bundle.write(
            out,
            name=NAME,
            labels=CLASSES,
            text=clip.text_features(made, CLASSES, (clip.DEFAULT_PROMPT,)),
            prompts=(clip.DEFAULT_PROMPT,),
            logit_scale=made.logit_scale,
            encoder=bundle.EncoderSource(path, tracing.INPUT, tracing.OUTPUT, Precision.FP32),
            preprocess=model.PREPROCESS,
            source={**made.source, "stored": "fp16, cast to fp32 on loading", "parity": report.as_json()},
            replace=True,
        )


def store_as_fp16(path: Path) -> None:
    """Rewrite an ONNX file: each fp32 weight becomes an fp16 one and a Cast, which runtimes fold on loading."""
    import onnx
    from onnx import helper, numpy_helper

    found = onnx.load(path)
    kept, casts = [], []
    for weight in found.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT:
            kept.append(weight)
            continue
        stored = f"{weight.name}_fp16"
        kept.append(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [weight.name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *found.graph.node]
    for field, entries in ((found.graph.initializer, kept), (found.graph.node, nodes)):
        copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
        del field[:]
        field.extend(copies)
    for entry in [*found.graph.node, found.graph]:
        del entry.metadata_props[:]  # the exporter notes Python stack traces here, with paths of the machine
        entry.doc_string = ""
    onnx.checker.check_model(found)
    onnx.save(found, path)
