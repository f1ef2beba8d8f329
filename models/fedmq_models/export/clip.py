"""An open_clip model as a source of bundles: its weights, its tokenizer, and the preprocessing it was trained with.

Three kinds of weights: a tag that open_clip knows (`openai`, fetched from its hub), a local checkpoint, or random ones
from a seed, which are good for shapes, parity and speed and for nothing else.
"""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedmq_models.bundle import Interpolation, Preprocess, Resize
from fedmq_models.errors import OptionInvalid, SourceUnreadable, first_line
from fedmq_models.packages import quiet, require

if TYPE_CHECKING:
    import torch

DEFAULT_PROMPT = "a picture of a {}"  # FedCLIP's only template, reference code prepare_data:21
PROMPTS_AT_ONCE = 256
OWN_WEIGHTS = ("local-dir:", "hf-hub:")


@dataclass(frozen=True)
class Clip:
    """A CLIP model in evaluation mode on the CPU, in float32, and what turns text and images into its input.

    tokenizer      texts -> token ids (texts, context) int64
    source         where the weights come from; goes into the bundle's provenance
    """

    model: Any
    tokenizer: Callable[[list[str]], torch.Tensor]
    preprocess: Preprocess
    source: dict[str, Any]

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by: exp of the learnt parameter, 100 for OpenAI's models."""
        return float(self.model.logit_scale.detach().exp())


def brings_weights(model: str) -> bool:
    """Whether an open_clip name stands for a folder or a hub entry that holds both a configuration and weights."""
    return model.startswith(OWN_WEIGHTS)


def origin(model: str, pretrained: str | None, seed: int) -> str:
    """Where the weights come from, in words."""
    return "its own" if brings_weights(model) else pretrained or f"random, seed {seed}"


def load(model: str, pretrained: str | None, seed: int = 0) -> Clip:
    """Build an open_clip model on the CPU.

    model          an open_clip name (ViT-B-32), or one that brings its weights: local-dir:FOLDER, hf-hub:NAME
    pretrained     a tag of that model, a checkpoint file, or None for random weights from `seed`
    raises         ExportUnavailable; OptionInvalid for a name or tag that is not known; SourceUnreadable for weights
                   that cannot be fetched or do not fit
    """
    # The export needs all three, and a model that was built for nothing costs minutes.
    open_clip, _, _ = (require(name) for name in ("open_clip", "onnx", "onnxscript"))
    import torch

    has_own = brings_weights(model)
    if not has_own:
        _require_known(open_clip, model, pretrained)
    options: dict[str, Any] = {}
    if _wants_quick_gelu(open_clip, model, pretrained):
        # open_clip 3 only warns when a tag was trained with QuickGELU and the model's configuration is not, as for
        # ViT-B-32 with `openai`, and then computes something slightly wrong.
        options["force_quick_gelu"] = True
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        try:
            made = open_clip.create_model(
                model,
                pretrained=pretrained,
                device="cpu",
                require_pretrained=has_own or pretrained is not None,
                **options,
            )
            tokenizer = open_clip.get_tokenizer(model)
        except pickle.UnpicklingError as fault:
            # torch's own words advise to load it regardless, which runs whatever code is in it.
            raise SourceUnreadable(
                f"{model} cannot be built from {pretrained}: it is no checkpoint of plain weights"
            ) from fault
        except (RuntimeError, OSError, ValueError, KeyError, TypeError, EOFError) as fault:
            what = pretrained or "its weights"
            raise SourceUnreadable(f"{model} cannot be built from {what}: {first_line(fault)}") from fault
    return Clip(
        made.eval().requires_grad_(False),
        tokenizer,
        preprocess_of(made),
        {
            "model": model,
            "pretrained": origin(model, pretrained, seed),
            "open_clip": metadata.version("open_clip_torch"),
        },
    )


def preprocess_of(model: Any) -> Preprocess:
    """The preprocessing that open_clip attached to a model.

    raises     OptionInvalid for one that a bundle cannot hold (not square, or padded to the long side)
    """
    found = model.visual.preprocess_cfg
    size = found["size"]
    height, width = (size, size) if isinstance(size, int) else size
    modes = {"shortest": Resize.SHORT_SIDE, "squash": Resize.SQUASH}
    if height != width or found["resize_mode"] not in modes:
        raise OptionInvalid(
            f"the model wants {height}x{width} pixels by resize mode {found['resize_mode']!r}; "
            f"a bundle holds squares by one of: {', '.join(modes)}"
        )
    # "random" is a training choice; open_clip itself takes bicubic for it when it infers.
    bilinear = found["interpolation"] == "bilinear"
    red, green, blue = (float(value) for value in found["mean"])
    red_std, green_std, blue_std = (float(value) for value in found["std"])
    return Preprocess(
        size=int(height),
        resize=modes[found["resize_mode"]],
        interpolation=Interpolation.BILINEAR if bilinear else Interpolation.BICUBIC,
        mean=(red, green, blue),
        std=(red_std, green_std, blue_std),
    )


def text_features(clip: Clip, labels: Sequence[str], prompts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Class text features (labels, dim) float32 of norm 1: the mean of its normalised prompts, normalised again.

    An underscore in a label reads as a space in its prompt: class folders are named that way.
    """
    import torch

    texts = [prompt.replace("{}", label.replace("_", " ")) for label in labels for prompt in prompts]
    rows = []
    with torch.no_grad():
        for start in range(0, len(texts), PROMPTS_AT_ONCE):
            tokens = clip.tokenizer(texts[start : start + PROMPTS_AT_ONCE])
            rows.append(clip.model.encode_text(tokens, normalize=True).float().numpy())
    each = np.concatenate(rows).reshape(len(labels), len(prompts), -1)
    mean = each.mean(axis=1)
    features: npt.NDArray[np.float32] = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)
    return features


def _require_known(open_clip: Any, model: str, pretrained: str | None) -> None:
    known = open_clip.list_models()
    if model not in known:
        near = difflib.get_close_matches(model, known, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise OptionInvalid(f"open_clip knows no model {model!r}{hint}")
    if pretrained is None or Path(pretrained).is_file():
        return
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained.lower() not in {tag.lower() for tag in tags}:
        raise OptionInvalid(
            f"{pretrained!r} is neither a file nor weights that open_clip has for {model}; "
            f"it has: {', '.join(tags) or 'none'}"
        )


def _wants_quick_gelu(open_clip: Any, model: str, pretrained: str | None) -> bool:
    if pretrained is None or brings_weights(model) or Path(pretrained).is_file():
        return False
    trained = open_clip.get_pretrained_cfg(model, pretrained)
    config = open_clip.get_model_config(model) or {}
    return bool(trained.get("quick_gelu")) and not config.get("quick_gelu", False)
