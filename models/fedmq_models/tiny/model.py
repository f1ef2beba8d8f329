"""The tiny CLIP's architecture, and its folder: an open_clip configuration, fp16 weights and the merges file.

A ModifiedResNet (the RN50 of Radford et al. 2021, arXiv:2103.00020) with one block per stage and 16 channels, for 48
pixels, beside a text transformer of two layers of width 64. 0.92 M of its 1.6 M parameters are the attention pool.
open_clip loads the folder as `local-dir:FOLDER`; its tokenizer needs the merges file by its full path.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fedmq_models.bundle import Interpolation, Preprocess, Resize
from fedmq_models.tiny import captions, tokens
from fedmq_models.tiny.images import SIZE

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

CLIP: Final = Path(__file__).parent / "clip"
WEIGHTS: Final = "open_clip_model.safetensors"
CONFIG: Final = "open_clip_config.json"
MERGES: Final = "merges.txt.gz"
CONTEXT: Final = 16  # tokens per text, with start and end
# Pictures are drawn at the model's size, where resizing is the identity; people's own photos need a filter. Mean and
# deviation are those usual for CLIP, so that default preprocessing elsewhere is the right one.
PREPROCESS: Final = Preprocess(
    size=SIZE,
    resize=Resize.SHORT_SIDE,
    interpolation=Interpolation.BICUBIC,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)


def configuration(vocabulary: int) -> dict[str, Any]:
    """What open_clip builds the model and its preprocessing from."""
    vision = {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32, "patch_size": None}
    text = {"context_length": CONTEXT, "vocab_size": vocabulary, "width": 64, "heads": 2, "layers": 2}
    pixels = {"mean": list(PREPROCESS.mean), "std": list(PREPROCESS.std), "interpolation": "bicubic"}
    return {
        "model_cfg": {"embed_dim": 256, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"size": SIZE, "mode": "RGB", **pixels, "resize_mode": "shortest"},
    }


def prepare(folder: Path) -> None:
    """Write the configuration and the merges file; the weights come with `save`."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = tokens.learn(captions.words())
    tokens.write(folder / MERGES, merges)
    config = configuration(tokens.vocabulary_size(merges))
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def untrained(folder: Path) -> Any:
    """An open_clip CLIP of the folder's configuration, with the random weights that torch's seed gives."""
    import open_clip

    config = json.loads((folder / CONFIG).read_text())
    return open_clip.CLIP(**config["model_cfg"])


def tokenizer(folder: Path = CLIP) -> Any:
    """A callable: list of texts -> int64 (n, CONTEXT), longer texts cut."""
    import open_clip

    return open_clip.SimpleTokenizer(bpe_path=str(folder / MERGES), context_length=CONTEXT)


def save(model: Any, folder: Path) -> None:
    """Write the weights as fp16; integers (batch counters) keep their type."""
    import torch
    from safetensors.torch import save_file

    state = model.state_dict()
    halved = {name: value.half() if value.dtype == torch.float32 else value for name, value in state.items()}
    save_file({name: value.contiguous() for name, value in halved.items()}, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # safetensors makes it private


def load(folder: Path = CLIP) -> Any:
    """The trained model, fp32, in evaluation mode (it has batch normalisation)."""
    from safetensors.torch import load_file

    model = untrained(folder)
    state = load_file(folder / WEIGHTS)
    model.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    )
    return model.eval()


def normalised(pixels: "NDArray[np.uint8]") -> "torch.Tensor":
    """uint8 (n, SIZE, SIZE, 3) -> float32 (n, 3, SIZE, SIZE), as the model wants it."""
    import torch

    x = torch.from_numpy(pixels.astype("float32")).permute(0, 3, 1, 2) / 255.0
    return (x - torch.tensor(PREPROCESS.mean).view(3, 1, 1)) / torch.tensor(PREPROCESS.std).view(3, 1, 1)
