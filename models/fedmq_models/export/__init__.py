"""Exporting: what becomes ONNX. Bundles out of other people's models, and one file out of what a run has learned.

`making.py` makes bundles, from an open_clip model or from an encoder that is ONNX already; it is put together from
`clip.py` (a model and what it was trained with), `tracing.py` (its image tower as ONNX), `parity.py` (whether that
computes the same) and `arrays.py` (class text features in a file). `adapted.py` puts an adapter behind an encoder, with
`graph.py`.
"""

from fedmq_models.export.adapted import Middle, export_adapted, zero_shot
from fedmq_models.export.arrays import class_text
from fedmq_models.export.graph import Graph
from fedmq_models.export.making import from_clip, from_onnx, from_open_clip

__all__ = ["Graph", "Middle", "class_text", "export_adapted", "from_clip", "from_onnx", "from_open_clip", "zero_shot"]
