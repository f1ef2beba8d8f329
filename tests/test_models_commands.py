"""`fedmq bundle`: what a person types, what comes back, and with which code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import linear_encoder
from fedmq_models import bundle, options
from fedmq_models.bundle import Resize, digest
from fedmq_models.commands import app
from fedmq_models.errors import ModelError, OptionInvalid

SMALL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["bundle", *(str(word) for word in words)])


def refusal(*words: object) -> ModelError:
    found = run(*words).exception
    assert isinstance(found, ModelError), found
    return found


@pytest.fixture
def text(tmp_path: Path) -> Path:
    np.savez(tmp_path / "text.npz", text=linear_encoder.text(), classes=np.array(linear_encoder.LABELS))
    return tmp_path / "text.npz"


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    return linear_encoder.write_bundle(tmp_path / "linear").path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    import open_clip

    folder = tmp_path_factory.mktemp("models")
    (folder / "small-for-commands.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(folder)
    return "small-for-commands"


def test_make_builds_a_bundle_and_shows_it(small: str, tmp_path: Path) -> None:
    out = tmp_path / "pets"
    found = run("make", "--model", small, "--random-weights", "--labels", "dog,cat", "--out", out, "--json")
    assert found.exit_code == 0, found.output
    shown = json.loads(found.stdout)
    assert (shown["labels"], shown["dim"], shown["source"]["pretrained"]) == (["dog", "cat"], 8, "random, seed 0")
    assert "exporting the image tower to ONNX in fp32" in found.stderr
    assert bundle.verify(out) == []


def test_make_takes_a_checkpoint(small: str, tmp_path: Path) -> None:
    import torch

    from fedmq_models.export import clip

    torch.save(clip.load(small, None).model.state_dict(), tmp_path / "w.pt")
    found = run("make", "--model", small, "--checkpoint", tmp_path / "w.pt", "--labels", "dog", "--out", tmp_path / "b")
    assert found.exit_code == 0, found.output
    assert bundle.load(tmp_path / "b").source["pretrained"] == str(tmp_path / "w.pt")


def test_a_checkpoint_may_be_given_as_either_option(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.touch()
    assert options.weights("ViT-B-32", None, path, False) == options.weights("ViT-B-32", str(path), None, False)


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["--labels", "dog"], 2, "choose one of --pretrained TAG, --checkpoint FILE and --random-weights; given: none"),
        (["--labels", "dog", "--random-weights", "--pretrained", "openai"], 2, "--pretrained and --random-weights"),
        (["--labels", "dog", "--random-weights", "--model", "local-dir:x"], 2, "brings its own weights; leave out"),
        (["--labels", "dog", "--model", "local-dir:gone"], 3, "local-dir:gone cannot be built from its weights"),
        (["--labels", "dog", "--checkpoint", "gone.pt"], 2, "--checkpoint: gone.pt is no file"),
        (["--labels", "dog,dog", "--random-weights"], 2, "dog is there twice"),
        (["--labels", "dog,,cat", "--random-weights"], 2, "holds a blank name"),
        (["--labels", "./gone", "--random-weights"], 2, "neither a file nor a folder"),
        (["--labels", "dog", "--random-weights", "--precision", "int8"], 2, "'int8' is not one of fp32, fp16"),
        (["--labels", "dog", "--random-weights", "--prompt", "a picture"], 2, "must hold one {}"),
        (["--labels", "dog", "--random-weights", "--model", "ViT-B32"], 2, "did you mean ViT-B-32"),
    ],
)
def test_make_refuses_with_a_sentence_and_a_code(words: list[str], code: int, problem: str, tmp_path: Path) -> None:
    found = refusal("make", "--out", tmp_path / "b", *words)
    assert found.exit_code == code
    assert problem in str(found)
    assert list(tmp_path.iterdir()) == []


def test_from_onnx_makes_a_bundle_that_verifies(text: Path, tmp_path: Path) -> None:
    onnx = linear_encoder.write_encoder(tmp_path / "encoder.onnx")
    made = run(
        *("from-onnx", onnx, "--text", text, "--out", tmp_path / "b", "--labels", "fish,dog", "--size", 8),
        *("--mean", "128/255", "--std", "0.5,0.25,1/8", "--resize", "squash", "--interpolation", "bilinear"),
        *("--scale", 10, "--logit-scale", 50, "--prompt", "a {}", "--name", "edge", "--note", "by hand"),
    )
    assert made.exit_code == 0, made.output
    found = bundle.load(tmp_path / "b")
    assert found.preprocess is not None
    assert found.labels == ("fish", "dog")
    assert (found.preprocess.mean, found.preprocess.std) == ((128 / 255,) * 3, (0.5, 0.25, 0.125))
    assert (found.preprocess.resize, found.scale, found.logit_scale) == (Resize.SQUASH, 10.0, 50.0)
    assert (found.name, found.prompts, found.source["note"]) == ("edge", ("a {}",), "by hand")
    assert run("verify", tmp_path / "b").exit_code == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--size", "0"], "--size is 0; it must be from 1 to 4096"),
        (["--std", "0"], "--std is 0.0; it must be above 0"),
        (["--mean", "grey"], "--mean: 'grey' is not a number"),
        (["--mean", "1,2"], "has 2 numbers"),
        (["--mean", "1/0"], "--mean: '1/0' is not a number"),
        (["--scale", "-1"], "--scale is -1.0; it must be above 0"),
        (["--logit-scale", "nan"], "--logit-scale is nan"),
        (["--resize", "long_side"], "--resize: 'long_side' is not one of short_side, squash"),
        (["--labels", "dgo"], "nearest to 'dgo': dog"),
        (["--text-key", "features"], "no array 'features'"),
        (["--output", "vector", "--size", "8"], "no output 'vector'; it has embedding, logits"),
        (["--size", "9"], "takes images of 8 pixels, the preprocessing makes 9"),
    ],
)
def test_from_onnx_refuses_with_a_sentence(words: list[str], problem: str, text: Path, tmp_path: Path) -> None:
    onnx = linear_encoder.write_encoder(tmp_path / "encoder.onnx")
    assert problem in str(refusal("from-onnx", onnx, "--text", text, "--out", tmp_path / "b", *words))
    assert not (tmp_path / "b").exists()


def test_an_encoder_that_normalises_earns_a_hint_about_its_scale(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    shape: list[str | int | None] = ["batch", 3, 1, 1]
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("LpNormalization", ["flat"], ["y"])],
        "unit",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "unit.onnx")
    np.savez(tmp_path / "text.npz", text=np.eye(3, dtype=np.float32), classes=np.array(["a", "b", "c"]))
    words = ("from-onnx", tmp_path / "unit.onnx", "--text", tmp_path / "text.npz", "--size", 1, "--out")
    assert "consider --scale 10" in run(*words, tmp_path / "one").stderr
    assert "consider --scale 10" not in run(*words, tmp_path / "ten", "--scale", 10).stderr


def test_from_features_makes_a_bundle_without_an_encoder(text: Path, tmp_path: Path) -> None:
    found = run("from-features", "--text", text, "--space", "clip", "--scale", 10, "--out", tmp_path / "b", "--json")
    assert found.exit_code == 0, found.output
    shown = json.loads(found.stdout)
    assert (shown["encoder"], shown["preprocess"], shown["labels"]) == (None, None, list(linear_encoder.LABELS))
    assert (shown["scale"], shown["feature_space"]) == (10.0, digest.declared_space("clip", 10.0))
    said = run("show", tmp_path / "b").stdout
    assert "none: nodes bring features" in said
    assert "dim 6, logit scale 100, multiplied by 10" in said


def test_a_place_that_is_taken_is_refused_and_replaced_when_asked(text: Path, linear: Path) -> None:
    words = ("from-features", "--text", text, "--space", "x", "--out", linear)
    assert refusal(*words).exit_code == 3
    assert run(*words, "--replace").exit_code == 0
    assert bundle.load(linear).encoder is None


def test_show_says_what_a_bundle_holds(linear: Path) -> None:
    shown = run("show", linear).stdout
    for part in ("linear in", "3: dog, cat, fish", "a picture of a {}", "dim 6, logit scale 20", "8 x 8, short_side"):
        assert part in shown
    assert json.loads(run("show", linear, "--json").stdout)["encoder"]["output"] == "embedding"


def test_show_of_no_bundle_is_an_unusable_input(tmp_path: Path) -> None:
    found = refusal("show", tmp_path / "nowhere")
    assert found.exit_code == 3
    assert "name a bundle folder or one of: tiny" in str(found)


def test_verify_ends_with_one_and_names_the_file_when_something_is_wrong(linear: Path) -> None:
    (linear / "encoder.onnx").write_bytes(b"changed")
    found = run("verify", linear)
    assert found.exit_code == 1
    assert "encoder.onnx: has digest" in found.stdout
    as_json = run("verify", linear, "--json")
    assert as_json.exit_code == 1
    assert [finding["file"] for finding in json.loads(as_json.stdout)["findings"]] == ["encoder.onnx"]


def test_verify_of_a_sound_bundle_says_so(linear: Path) -> None:
    assert run("verify", linear).stdout.strip() == f"{linear} is sound"
    assert json.loads(run("verify", linear, "--json").stdout)["findings"] == []


def test_every_command_has_an_example() -> None:
    for name in ("make", "from-onnx", "from-features", "show", "verify"):
        assert f"fedmq bundle {name}" in run(name, "--help").output


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("commands", ["torch", "onnxruntime", "onnx", "open_clip", "numpy", "pydantic", "PIL"]),
        ("encode", ["torch", "onnxruntime", "onnx", "open_clip"]),
        ("export", ["torch", "onnxruntime", "onnx", "open_clip", "PIL"]),
    ],
)
def test_what_a_module_needs_later_is_not_loaded_with_it(module: str, heavy: list[str]) -> None:
    code = f"import sys, fedmq_models.{module}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_labels_come_from_names_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("dog\n\n  polar bear \n", encoding="utf-8")
    for name in ("dog", "cat", ".cache"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    (tmp_path / "photos" / "notes.txt").touch()
    assert options.labels("dog, polar bear") == ("dog", "polar bear")
    assert options.labels(str(tmp_path / "names.txt")) == ("dog", "polar bear")
    assert options.labels(str(tmp_path / "photos")) == ("cat", "dog")


def test_a_folder_without_classes_and_a_file_without_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "image.bin").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    for name, problem in (("empty.txt", "names no class"), ("image.bin", "as text"), ("folder", "has no folders")):
        with pytest.raises(OptionInvalid, match=problem):
            options.labels(str(tmp_path / name))
