"""Encoding: images in, features out, each image once, with onnxruntime on one device.

`images.py` opens files that anyone may have put there, `preprocess.py` makes them an encoder's input, `encoder.py` runs
it, `stream.py` does all three for any number of files with bounded memory. `devices.py` says what there is to run on,
and `bound.py` is the run on a GPU.
"""

from fedmq_models.encode.devices import Device
from fedmq_models.encode.encoder import Encoder
from fedmq_models.encode.images import ImageSource, open_image
from fedmq_models.encode.preprocess import pixels, read_pixels

__all__ = ["Device", "Encoder", "ImageSource", "open_image", "pixels", "read_pixels"]
