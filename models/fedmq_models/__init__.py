"""The neural parts: bundles, encoders, methods. They know no wire and no rounds.

    bundle/      what a federation freezes: read, written, verified
    encode/      images to features, on a CPU or a GPU
    export/      bundles out of open_clip models and ONNX files; an adapter behind its encoder as one file
    methods/     what learns, one file per method; `training.py` trains it on `examples.py`, `classifier.py` classifies
    tiny/        the embedded default, and how it was made

A bundle knows none of the others; encoders and exports know bundles, and not each other.
"""
