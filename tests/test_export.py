"""Exports: an encoder in a bundle computes what open_clip computes, or there is no bundle."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import linear_encoder
from fedmq_models import bundle, export
from fedmq_models.bundle import Bundle, Precision, Preprocess, Resize
from fedmq_models.encode import Encoder
from fedmq_models.errors import (
    BundleUnwritable,
    ExportUnavailable,
    OptionInvalid,
    ParityFailed,
    SourceUnreadable,
)
from fedmq_models.export import arrays, clip, parity, tracing

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "patch_size": None}
# As wide as ViT-B-32, on images as large, and two of its twelve layers deep.
WIDE = {"image_size": 224, "layers": 2, "width": 768, "patch_size": 32}
MODELS: dict[str, dict[str, Any]] = {
    "small-vit": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT},
    "small-resnet": {"embed_dim": 24, "vision_cfg": RESNET, "text_cfg": TEXT},
    "wide-vit": {"embed_dim": 512, "vision_cfg": WIDE, "text_cfg": TEXT},
}
LABELS = ("dog", "art_painting", "tree")
PROMPTS = ("a picture of a {}", "a drawing of a {}.")


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let open_clip know our models."""
    import open_clip

    folder = tmp_path_factory.mktemp("models")
    for name, config in MODELS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What is said while `vit` is made."""
    return []


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "vit"
    return export.from_open_clip(
        "small-vit", pretrained=None, seed=3, labels=LABELS, prompts=PROMPTS, out=out, say=said.append
    )


@pytest.fixture(scope="module")
def source() -> clip.Clip:
    return clip.load("small-vit", None, seed=3)


def eager(source: clip.Clip) -> Callable[[np.ndarray], np.ndarray]:
    return tracing.reference(tracing.tower(source.model.visual, Precision.FP32))


def test_an_exported_encoder_gives_open_clips_features_without_normalising_them(vit: Bundle, source: clip.Clip) -> None:
    import torch

    pixels = np.random.default_rng(0).normal(size=(5, 3, 16, 16)).astype(np.float32)
    with torch.no_grad():
        expected = source.model.encode_image(torch.from_numpy(pixels), normalize=False).numpy()
    np.testing.assert_allclose(Encoder(vit, "cpu").encode(pixels), expected, atol=1e-5)


def test_text_features_are_the_mean_of_normalised_prompts_normalised_again(vit: Bundle, source: clip.Clip) -> None:
    import open_clip
    import torch

    tokenizer = open_clip.get_tokenizer("small-vit")
    rows = []
    for label in ("dog", "art painting", "tree"):
        tokens = tokenizer([f"a picture of a {label}", f"a drawing of a {label}."])
        with torch.no_grad():
            each = source.model.encode_text(tokens)
        mean = (each / each.norm(dim=1, keepdim=True)).mean(dim=0)
        rows.append((mean / mean.norm()).numpy())
    np.testing.assert_allclose(vit.text, np.stack(rows), atol=1e-6)


def test_the_bundle_says_what_it_was_made_from(vit: Bundle, source: clip.Clip) -> None:
    assert (vit.name, vit.labels, vit.prompts, vit.dim) == ("small-vit", LABELS, PROMPTS, 24)
    assert vit.logit_scale == pytest.approx(source.logit_scale) == pytest.approx(1 / 0.07, rel=1e-5)
    assert vit.preprocess == source.preprocess
    assert vit.source["pretrained"] == "random, seed 3"
    assert vit.source["parity"]["min_cosine"] > 0.99999
    assert bundle.verify(vit.path) == []


def test_random_weights_follow_the_seed_and_leave_torchs_own_alone() -> None:
    import torch

    torch.manual_seed(5)
    before = torch.get_rng_state()
    pixels = np.ones((1, 3, 16, 16), dtype=np.float32)
    found = [eager(clip.load("small-vit", None, seed=seed))(pixels) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_an_exported_encoder_says_nothing_about_the_machine_it_was_made_on(vit: Bundle) -> None:
    content = vit.encoder_path.read_bytes()
    for trace in (b"site-packages", b"tracing.py", str(Path.home()).encode() + b"/"):
        assert trace not in content


def test_the_same_weights_give_the_same_feature_space_again(vit: Bundle, tmp_path: Path) -> None:
    again = export.from_open_clip("small-vit", pretrained=None, seed=3, labels=["x"], out=tmp_path / "again")
    assert again.feature_space == vit.feature_space


def test_a_resnet_tower_exports_too(tmp_path: Path) -> None:
    made = export.from_open_clip("small-resnet", pretrained=None, labels=LABELS, out=tmp_path / "b")
    assert made.source["parity"]["min_cosine"] > 0.99999
    assert bundle.verify(made.path) == []


def test_an_fp16_export_is_half_the_size_runs_on_the_cpu_and_is_another_feature_space(
    vit: Bundle, tmp_path: Path
) -> None:
    half = export.from_open_clip(
        "small-vit", pretrained=None, seed=3, labels=LABELS, out=tmp_path / "half", precision=Precision.FP16
    )
    sizes = [made.encoder_path.stat().st_size for made in (half, vit)]
    assert sizes[0] < 0.6 * sizes[1]
    assert half.feature_space != vit.feature_space
    assert 0.9999 < half.source["parity"]["min_cosine"] < 1
    pixels = np.random.default_rng(0).normal(size=(5, 3, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(Encoder(half, "cpu").encode(pixels), Encoder(vit, "cpu").encode(pixels), atol=0.02)
    assert bundle.verify(half.path) == []


def test_a_checkpoint_gives_the_model_that_was_saved(source: clip.Clip, tmp_path: Path) -> None:
    import torch

    torch.save(source.model.state_dict(), tmp_path / "small.pt")
    loaded = clip.load("small-vit", str(tmp_path / "small.pt"), seed=99)
    pixels = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    np.testing.assert_array_equal(eager(loaded)(pixels), eager(source)(pixels))


def test_a_local_folder_of_open_clip_gives_the_model_that_was_saved(source: clip.Clip, tmp_path: Path) -> None:
    from safetensors.torch import save_file as save_weights

    save_weights(source.model.state_dict(), tmp_path / "open_clip_model.safetensors")
    config = {"model_cfg": MODELS["small-vit"], "preprocess_cfg": {"mean": [0.5] * 3, "resize_mode": "squash"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    loaded = clip.load(f"local-dir:{tmp_path}", None)
    pixels = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    np.testing.assert_array_equal(eager(loaded)(pixels), eager(source)(pixels))
    assert (loaded.preprocess.mean, loaded.preprocess.resize) == ((0.5, 0.5, 0.5), Resize.SQUASH)


def test_a_tag_that_was_trained_with_quickgelu_gets_it(
    source: clip.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip
    import torch
    from open_clip import factory

    torch.save(source.model.state_dict(), tmp_path / "openai.pt")
    tag = {"quick_gelu": True, "mean": (0.5, 0.5, 0.5)}
    for module in (open_clip, factory):
        monkeypatch.setattr(module, "get_pretrained_cfg", lambda _model, _tag: tag)
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda _model: ["openai"])
    monkeypatch.setattr(factory, "download_pretrained", lambda _tag, cache_dir=None: str(tmp_path / "openai.pt"))
    loaded = clip.load("small-vit", "openai")
    kinds = {type(module).__name__ for module in loaded.model.visual.modules()}
    assert "QuickGELU" in kinds
    assert loaded.preprocess.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("model", "pretrained", "problem"),
    [
        ("small-vitt", None, "no model 'small-vitt'; did you mean small-vit"),
        ("small-vit", "openai", "neither a file nor weights that open_clip has for small-vit; it has: none"),
        ("ViT-B-32", "openay", "it has: openai, "),
    ],
)
def test_an_unknown_model_or_tag_is_refused_with_those_that_are_known(
    model: str, pretrained: str | None, problem: str
) -> None:
    with pytest.raises(OptionInvalid, match=problem):
        clip.load(model, pretrained)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04"])
def test_a_checkpoint_that_is_none_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "small.pt").write_bytes(content)
    with pytest.raises(SourceUnreadable, match=r"small-vit cannot be built from .*small\.pt: ."):
        clip.load("small-vit", str(tmp_path / "small.pt"))


def test_a_checkpoint_of_another_model_is_refused_by_name(tmp_path: Path) -> None:
    import torch

    torch.save(clip.load("small-resnet", None).model.state_dict(), tmp_path / "other.pt")
    with pytest.raises(SourceUnreadable, match=r"small-vit cannot be built from .*other\.pt"):
        clip.load("small-vit", str(tmp_path / "other.pt"))


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return (Path.touch, (Path(tmp_path / "sprung"),))  # type: ignore[return-value]

    (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(SourceUnreadable):
        clip.load("small-vit", str(tmp_path / "trap.pt"))
    assert not (tmp_path / "sprung").exists()


def test_an_export_that_computes_something_else_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another(_module: object, size: int, _precision: object, out: Path) -> None:
        linear_encoder.write_encoder(out, dim=24, size=size)

    monkeypatch.setattr(tracing, "trace", another)
    with pytest.raises(ParityFailed, match=r"is not its source: min cosine -?0\.\d+ \(floor 0\.9999\)"):
        export.from_open_clip("small-vit", pretrained=None, labels=LABELS, out=tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


HOW = Preprocess(8, Resize.SHORT_SIDE, linear_encoder.HOW.interpolation, (0.5,) * 3, (0.5,) * 3)


def test_parity_of_an_encoder_with_itself_is_exact() -> None:
    found = parity.measure(linear_encoder.features, linear_encoder.features, HOW)
    assert (found.max_abs_diff, found.images, found.batches) == (0.0, 12, (1, 3, 8))
    assert found.min_cosine == pytest.approx(1)


@pytest.mark.parametrize(
    ("spoilt", "problem"),
    [
        (lambda x: np.tile(linear_encoder.features(x[:1]), (len(x), 1)), "min cosine"),
        (lambda x: linear_encoder.features(x)[:, ::-1], "min cosine"),
        (lambda x: 0 * linear_encoder.features(x), "min cosine 0.0"),
        (lambda x: np.nan * linear_encoder.features(x), "the export gives NaN or Inf on a batch of 1"),
        (lambda x: linear_encoder.features(x)[:, :5], r"gives shape \(1, 5\), its source gives \(1, 6\)"),
    ],
    ids=["one image for all", "reversed", "zeros", "nan", "narrower"],
)
def test_an_encoder_that_is_spoilt_fails_parity(spoilt: parity.Encode, problem: str) -> None:
    with pytest.raises(ParityFailed, match=problem):
        parity.measure(linear_encoder.features, spoilt, HOW)


def test_a_place_that_is_taken_is_refused_before_the_model_is_built(
    vit: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip, "load", lambda *_: pytest.fail("built a model for nothing"))
    with pytest.raises(BundleUnwritable, match="exists already"):
        export.from_open_clip("small-vit", pretrained=None, labels=LABELS, out=vit.path)


@pytest.mark.parametrize("package", ["open_clip", "onnx", "onnxscript"])
def test_without_the_export_extra_the_error_says_how_to_install_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportUnavailable, match=rf'needs {package}.* pip install "fedmq\[export\]"'):
        export.from_open_clip("small-vit", pretrained=None, labels=LABELS, out=tmp_path / "b")


@pytest.mark.usefixtures("vit")
def test_progress_is_told_step_by_step(said: list[str]) -> None:
    assert [line.split()[0] for line in said] == [
        "building",
        "exporting",
        "comparing",
        "parity:",
        "encoding",
        "writing",
    ]


def test_no_labels_and_no_prompts_are_refused(tmp_path: Path) -> None:
    for labels, prompts, problem in (
        ((), PROMPTS, "no labels"),
        (LABELS, (), "no prompts"),
        (LABELS, ("a",), "one {}"),
    ):
        with pytest.raises(OptionInvalid, match=problem):
            export.from_open_clip("small-vit", pretrained=None, labels=labels, prompts=prompts, out=tmp_path / "b")


def from_linear(out: Path, encoder: dict[str, Any] | None = None, **changes: Any) -> Bundle:
    path = linear_encoder.write_encoder(out.with_suffix(".onnx"), **(encoder or {}))
    given: dict[str, Any] = {
        "labels": linear_encoder.LABELS,
        "text": linear_encoder.text(),
        "preprocess": linear_encoder.HOW,
        "out": out,
    }
    return export.from_onnx(path, **{**given, **changes})


def test_a_bundle_from_an_existing_encoder_uses_its_names_and_its_bytes(tmp_path: Path) -> None:
    made = from_linear(tmp_path / "b", scale=10.0)
    assert made.encoder is not None
    assert (made.encoder.input, made.encoder.output, made.scale) == ("image", "embedding", 10.0)
    assert made.encoder_path.read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert bundle.verify(made.path) == []


def test_an_existing_fp16_encoder_is_recognised(tmp_path: Path) -> None:
    made = from_linear(tmp_path / "b", {"half": True})
    assert made.encoder is not None
    assert made.encoder.precision is Precision.FP16


def test_another_output_may_be_chosen(tmp_path: Path) -> None:
    made = from_linear(tmp_path / "b", output_name="logits")
    assert made.encoder is not None
    assert made.encoder.output == "logits"


@pytest.mark.parametrize(
    ("encoder", "changes", "problem"),
    [
        ({}, {"output_name": "vector"}, "no output 'vector'; it has embedding, logits"),
        ({"dim": 5}, {}, r"gives shape \(3, 5\) for 3 images, the text features have 6 dimensions"),
        ({"size": 9}, {}, "takes images of 9 pixels, the preprocessing makes 8"),
        ({"batch": 1}, {}, "takes batches of 1 only"),
    ],
)
def test_an_existing_encoder_that_does_not_fit_is_refused(
    encoder: dict[str, Any], changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises((SourceUnreadable, OptionInvalid), match=problem):
        from_linear(tmp_path / "b", encoder, **changes)
    assert not (tmp_path / "b").exists()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.savez(tmp_path / "a.npz", text=rows, classes=np.array(["dog", "cat", "fish"]), other=np.arange(3))
    save_file({"text": rows}, tmp_path / "bare.safetensors")
    save_file({"text": rows}, tmp_path / "named.safetensors", metadata={"classes": '["dog", "cat", "fish"]'})
    (tmp_path / "junk.npz").write_bytes(b"junk")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    return {path.name: path for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", ["a.npz", "named.safetensors"])
def test_labels_choose_and_order_the_rows_of_an_array_file(name: str, files: dict[str, Path]) -> None:
    labels, text = arrays.class_text(files[name], ["fish", "dog"])
    assert (labels, text.tolist()) == (("fish", "dog"), [[8, 9, 10, 11], [0, 1, 2, 3]])
    assert arrays.class_text(files[name])[0] == ("dog", "cat", "fish")


def test_labels_name_the_rows_of_a_file_without_names(files: dict[str, Path]) -> None:
    assert arrays.class_text(files["bare.safetensors"], ["x", "y", "z"])[0] == ("x", "y", "z")
    with pytest.raises(OptionInvalid, match="holds 3 rows and no names under 'classes', 1 labels were given"):
        arrays.class_text(files["bare.safetensors"], ["x"])


def test_classes_without_text_may_be_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", text=np.array([[1.0, 0], [0, 0], [0, 1]]), classes=np.array(["dog", "cat", "fish"]))
    assert arrays.class_text(tmp_path / "a.npz", drop_empty=True)[0] == ("dog", "fish")


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("a.npz", {"text_key": "features"}, "no array 'features'; it has text, classes, other"),
        ("a.npz", {"text_key": "other"}, r"'other' is int64 \(3,\), expected floats"),
        ("a.npz", {"labels": ["dgo"]}, r"no text for dgo \(nearest to 'dgo': dog"),
        ("named.safetensors", {"text_key": "features"}, "no tensor 'features'; it has text"),
        ("junk.npz", {}, "junk.npz is no npz file|junk.npz cannot be read"),
        ("junk.safetensors", {}, "junk.safetensors is no safetensors file"),
        ("gone.npz", {}, "gone.npz cannot be read: No such file"),
        ("gone.safetensors", {}, "gone.safetensors cannot be read"),
    ],
)
def test_an_array_file_that_does_not_fit_is_refused_by_name(
    name: str, options: dict[str, Any], problem: str, files: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises((SourceUnreadable, OptionInvalid), match=problem):
        arrays.class_text(files.get(name, tmp_path / name), **options)


def test_a_tower_as_wide_as_vit_b_32_exports(tmp_path: Path) -> None:
    made = export.from_open_clip("wide-vit", pretrained=None, labels=LABELS, out=tmp_path / "b")
    assert (made.dim, made.source["parity"]["images"]) == (512, 12)
    assert made.source["parity"]["min_cosine"] > 0.9999
