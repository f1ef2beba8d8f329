"""The embedded default: a tiny CLIP and a generator of captioned images in four visual domains.

Everything here is ours: the pictures are drawn (`images.draw`), the model is trained on them (`train`), and what ships
is its weights (`clip/`, an open_clip folder) and the bundle made from them (`bundle/`, which nodes use without torch).
The model has mostly seen photos, so it reads photos well and the other three domains half as well: that is the gap
which a federation can close.
"""
