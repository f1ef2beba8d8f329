"""Bundles: written whole or not at all, read back as they were, refused with the file and the key."""

import contextlib
import dataclasses
import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import linear_encoder
from fedmq_models import bundle
from fedmq_models.bundle import Bundle, EncoderFile, Interpolation, Precision, Resize, digest, manifest
from fedmq_models.bundle.manifest import Manifest
from fedmq_models.errors import BundleUnreadable, BundleUnwritable


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return linear_encoder.write_bundle(tmp_path_factory.mktemp("bundles") / "linear")


@pytest.fixture
def copy(written: Bundle, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(written.path, tmp_path / "copy"))


def test_a_bundle_reads_back_as_it_was_written(written: Bundle) -> None:
    found = bundle.load(written.path)
    assert found == written
    assert (found.labels, found.prompts, found.logit_scale, found.dim) == (
        linear_encoder.LABELS,
        ("a picture of a {}",),
        20.0,
        linear_encoder.DIM,
    )
    assert found.preprocess == linear_encoder.HOW
    np.testing.assert_array_equal(found.text, linear_encoder.text())


def test_writing_what_was_loaded_gives_the_same_bytes(written: Bundle, tmp_path: Path) -> None:
    assert written.encoder is not None
    again = bundle.write(
        tmp_path / "again",
        name=written.name,
        labels=written.labels,
        text=written.text,
        prompts=written.prompts,
        logit_scale=written.logit_scale,
        encoder=bundle.EncoderSource(written.encoder_path, "image", "embedding", Precision.FP32),
        preprocess=written.preprocess,
        source=written.source,
    )
    for path in written.path.iterdir():
        assert (again.path / path.name).read_bytes() == path.read_bytes()


def test_reading_a_bundle_loads_neither_torch_nor_onnxruntime(written: Bundle) -> None:
    heavy = ["torch", "onnxruntime", "onnx", "open_clip", "rich", "PIL"]
    code = (
        f"import sys, fedmq_models.bundle as b; b.load({str(written.path)!r}); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_features_only_bundle_has_a_declared_space_and_no_encoder(tmp_path: Path) -> None:
    made = [
        bundle.write(tmp_path / name, name=name, labels=["a", "b"], text=np.eye(2), declared_space=space)
        for name, space in (("one", "clip"), ("two", "clip"), ("three", "other"))
    ]
    assert made[0].feature_space == made[1].feature_space == digest.declared_space("clip") != made[2].feature_space
    with pytest.raises(BundleUnreadable, match="takes features, not images"):
        _ = made[0].encoder_path
    assert bundle.verify(made[0].path) == []


def test_a_scale_is_part_of_a_declared_space_unless_it_is_one(tmp_path: Path) -> None:
    one, ten = (
        bundle.write(
            tmp_path / f"{scale}", name="b", labels=["a"], text=np.ones((1, 2)), declared_space="x", scale=scale
        )
        for scale in (1, 10)
    )
    assert (one.scale, ten.scale) == (1.0, 10.0)
    assert one.feature_space == digest.declared_space("x") != ten.feature_space
    assert ten.feature_space == digest.declared_space("x", 10.0)


SPACE = EncoderFile("encoder.onnx", "a" * 64, "image", "embedding", Precision.FP32)


@pytest.mark.parametrize(
    ("encoder", "preprocess", "scale"),
    [
        ({"sha256": "b" * 64}, {}, 1.0),
        ({"output": "pooled"}, {}, 1.0),
        ({"precision": Precision.FP16}, {}, 1.0),
        ({}, {"size": 9}, 1.0),
        ({}, {"resize": Resize.SQUASH}, 1.0),
        ({}, {"interpolation": Interpolation.BILINEAR}, 1.0),
        ({}, {"mean": (0.5, 0.4, 0.31)}, 1.0),
        ({}, {"std": (0.2, 0.3, 0.41)}, 1.0),
        ({}, {}, 10.0),
    ],
)
def test_whatever_shapes_a_feature_changes_the_feature_space(
    encoder: dict[str, Any], preprocess: dict[str, Any], scale: float
) -> None:
    changed = digest.feature_space(
        dataclasses.replace(SPACE, **encoder), dataclasses.replace(linear_encoder.HOW, **preprocess), scale
    )
    assert changed != digest.feature_space(SPACE, linear_encoder.HOW)


def test_classes_and_names_do_not_change_the_feature_space(written: Bundle, tmp_path: Path) -> None:
    other = linear_encoder.write_bundle(
        tmp_path / "other",
        name="other",
        labels=["tree"],
        text=np.ones((1, linear_encoder.DIM)),
        prompts=("a {}",),
        logit_scale=1.0,
    )
    assert other.feature_space == written.feature_space


def test_text_features_are_stored_with_norm_one(tmp_path: Path) -> None:
    rows = 3 * np.eye(2, 4, dtype=np.float16)
    assert np.array_equal(bundle.write(tmp_path / "b", name="b", labels="ab", text=rows).text, np.eye(2, 4))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (np.zeros((2, 4)), "all zeros"),
        (np.full((2, 4), np.nan), "NaN or Inf"),
        (np.ones((3, 4)), "there are 2 labels"),
        (np.ones(4), "there are 2 labels"),
    ],
)
def test_text_features_that_cannot_be_are_refused_and_nothing_is_written(
    text: np.ndarray, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleUnreadable, match=problem):
        bundle.write(tmp_path / "b", name="b", labels=["x", "y"], text=text)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleUnreadable, match="'x' is there twice"):
        bundle.write(tmp_path / "b", name="b", labels=["x", "x"], text=np.eye(2))
    with pytest.raises(BundleUnreadable, match="must hold one"):
        bundle.write(tmp_path / "b", name="b", labels=["x", "y"], text=np.eye(2), prompts=["a picture"])
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_never_written_over_anything_by_accident(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").touch()
    with pytest.raises(BundleUnwritable, match="use --replace"):
        bundle.write(copy, name="b", labels=["x"], text=np.ones((1, 2)))
    with pytest.raises(BundleUnwritable, match="choose another place"):
        bundle.write(tmp_path / "holiday", name="b", labels=["x"], text=np.ones((1, 2)), replace=True)
    assert (tmp_path / "holiday" / "beach.jpg").exists()


def test_a_replaced_bundle_is_the_new_one_and_leaves_nothing_beside_it(copy: Path, tmp_path: Path) -> None:
    bundle.write(copy, name="new", labels=["x"], text=np.ones((1, 2)), replace=True)
    assert bundle.load(copy).name == "new"
    assert sorted(path.name for path in copy.iterdir()) == ["bundle.json", "text.safetensors"]
    assert list(tmp_path.iterdir()) == [copy]


def test_a_full_disk_leaves_nothing_behind_and_the_old_bundle_as_it_was(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bundle.load(copy)

    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(BundleUnwritable, match="No space left on device"):
        bundle.write(copy, name="new", labels=["x"], text=np.ones((1, 2)), replace=True)
    assert bundle.load(copy) == before
    assert list(tmp_path.iterdir()) == [copy]


def test_every_truncation_of_a_manifest_is_refused(written: Bundle) -> None:
    content = (written.path / "bundle.json").read_bytes().rstrip()
    for length in range(len(content)):
        with pytest.raises(BundleUnreadable, match=r"bundle\.json: the file is .*: invalid JSON"):
            manifest.parse(content[:length], "bundle.json")


PATHS = [
    ("format",),
    ("name",),
    ("labels",),
    ("prompts",),
    ("logit_scale",),
    ("dim",),
    ("encoder",),
    *(("encoder", key) for key in ("file", "sha256", "input", "output", "precision")),
    ("text",),
    ("text", "file"),
    ("text", "sha256"),
    ("preprocess",),
    *(("preprocess", key) for key in ("size", "resize", "interpolation", "mean", "std")),
    ("feature_space",),
]


def changed(manifest_: Manifest, path: Sequence[str], *value: object) -> str:
    """A manifest as JSON with another value at a path, or without one there."""
    content = json.loads(json.dumps(manifest_.as_json()))
    table = content
    for key in path[:-1]:
        table = table[key]
    del table[path[-1]]
    for found in value:
        table[path[-1]] = found
    return json.dumps(content)


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_a_missing_key_is_named(path: tuple[str, ...], written: Bundle) -> None:
    with pytest.raises(BundleUnreadable, match=rf"here: {'.'.join(path)} is missing"):
        manifest.parse(changed(written, path), "here")


def test_a_manifest_without_a_scale_has_one() -> None:
    assert manifest.parse(changed(KNOWN, ["scale"]), "here") == KNOWN


def test_keys_of_a_later_writer_are_ignored() -> None:
    assert manifest.parse(json.dumps({**KNOWN.as_json(), "weather": "fine"}), "here") == KNOWN


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("format",), 2, "format is 2, this fedmq reads format 1"),
        (("format",), True, "format is True, this fedmq reads format 1"),
        (("labels",), [], "labels is []: tuple should have at least 1 item"),
        (("labels",), ["x", "x"], "labels: 'x' is there twice"),
        (("labels",), ["x", " "], "labels.1 is ' ': string should match"),
        (("labels",), "dog", "labels is 'dog': input should be a valid array"),
        (("prompts",), ["a picture"], "must hold one {}"),
        (("logit_scale",), float("nan"), "logit_scale is nan: input should be a finite number"),
        (("logit_scale",), 10**400, "input should be a finite number"),
        (("logit_scale",), 0, "logit_scale is 0: input should be greater than 0"),
        (("dim",), True, "dim is True: input should be a valid integer"),
        (("dim",), 0, "dim is 0: input should be greater than or equal to 1"),
        (("scale",), -1, "scale is -1: input should be greater than 0"),
        (("scale",), 2.0, "feature_space is"),
        (("encoder", "file"), "../../etc/passwd", "encoder.file is '../../etc/passwd'"),
        (("text", "file"), "/etc/passwd", "text.file is '/etc/passwd'"),
        (("encoder", "precision"), "int4", "encoder.precision is 'int4': input should be 'fp32' or 'fp16'"),
        (("preprocess", "std"), [1, 0, 1], "preprocess.std.1 is 0: input should be greater than 0"),
        (("preprocess", "mean"), [1, 2], "preprocess.mean.2 is missing"),
        (("preprocess", "size"), 4097, "preprocess.size is 4097: input should be less than or equal to 4096"),
        (("preprocess",), None, "come together"),
        (("source",), None, "source is None: input should be an object"),
    ],
)
def test_an_impossible_value_is_refused_with_key_and_value(
    path: tuple[str, ...], value: object, problem: str, written: Bundle
) -> None:
    with pytest.raises(BundleUnreadable) as refused:
        manifest.parse(changed(written, path, value), "here")
    assert str(refused.value).startswith("here: ")
    assert problem in str(refused.value)


@pytest.mark.parametrize("content", ["", "{", "[1]", "5", "[" * 100_000])
def test_what_is_no_manifest_at_all_is_refused(content: str) -> None:
    with pytest.raises(BundleUnreadable, match="here: the file is .*: (invalid JSON|input should be an object)"):
        manifest.parse(content, "here")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)
KNOWN = Manifest(
    format=manifest.FORMAT,
    name="b",
    labels=("x",),
    prompts=(),
    logit_scale=1.0,
    dim=2,
    encoder=SPACE,
    text_file=manifest.TextFile("text.safetensors", "c" * 64),
    preprocess=linear_encoder.HOW,
    feature_space=digest.feature_space(SPACE, linear_encoder.HOW),
)


@settings(max_examples=200, deadline=None)
@given(path=st.sampled_from([*PATHS, ("scale",), ("source",)]), value=JSON)
def test_any_json_at_any_key_is_read_for_good_or_refused(path: tuple[str, ...], value: object) -> None:
    with contextlib.suppress(BundleUnreadable):
        found = manifest.parse(changed(KNOWN, path, value), "here")
        assert manifest.parse(json.dumps(found.as_json()), "here") == found


@given(st.tuples(*[st.floats(1e-300, 1e300)] * 3))
def test_numbers_come_back_to_the_bit(std: tuple[float, float, float]) -> None:
    how = dataclasses.replace(linear_encoder.HOW, std=std)
    known = dataclasses.replace(KNOWN, preprocess=how, feature_space=digest.feature_space(SPACE, how))
    assert manifest.parse(json.dumps(known.as_json()), "here") == known


def test_changed_text_features_are_refused_with_both_digests(copy: Path) -> None:
    path = copy / "text.safetensors"
    before = digest.sha256_file(path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(BundleUnreadable) as refused:
        bundle.load(copy)
    assert before in str(refused.value)
    assert digest.sha256_file(path) in str(refused.value)


@pytest.mark.parametrize("name", ["bundle.json", "text.safetensors", "encoder.onnx"])
def test_a_missing_file_is_named(name: str, copy: Path) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleUnreadable, match=name):
        bundle.load(copy)


def test_a_folder_that_is_no_bundle_is_refused_with_what_could_be_meant(tmp_path: Path) -> None:
    with pytest.raises(BundleUnreadable, match="name a bundle folder or one of: tiny"):
        bundle.load(tmp_path / "nowhere")


def test_verify_finds_nothing_wrong_with_a_sound_bundle(written: Bundle) -> None:
    assert bundle.verify(written.path) == []


def test_verify_finds_every_changed_file_at_once(copy: Path) -> None:
    for name in ("text.safetensors", "encoder.onnx"):
        (copy / name).write_bytes((copy / name).read_bytes() + b"\x00")
    assert [finding.file for finding in bundle.verify(copy)] == ["text.safetensors", "encoder.onnx"]


def test_verify_finds_a_damaged_manifest(copy: Path) -> None:
    (copy / "bundle.json").write_text("{")
    (finding,) = bundle.verify(copy)
    assert finding.file == "bundle.json"


def test_verify_of_no_bundle_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleUnreadable, match="is no bundle"):
        bundle.verify(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("encoder", "problem"),
    [
        ({"nan": True}, "NaN or Inf"),
        ({"dim": 5}, "expected dim 6"),
        ({"size": 9}, "takes images of 9 pixels"),
        ({"batch": 2}, "takes batches of 2 only"),
        ({"names": ("image", "vector")}, "no output 'embedding'; it has vector, logits"),
        ({"names": ("pixels", "embedding")}, "no input 'image'; it has pixels"),
    ],
)
def test_verify_runs_the_encoder_and_says_what_is_wrong(encoder: dict[str, Any], problem: str, tmp_path: Path) -> None:
    made = linear_encoder.write_bundle(tmp_path / "b", encoder=encoder)
    (finding,) = bundle.verify(made.path)
    assert problem in str(finding)


def test_verify_finds_another_precision_than_declared(tmp_path: Path) -> None:
    path = linear_encoder.write_encoder(tmp_path / "half.onnx", half=True)
    source = bundle.EncoderSource(path, "image", "embedding", Precision.FP32)
    made = linear_encoder.write_bundle(tmp_path / "b", name="half")
    made = bundle.write(
        tmp_path / "half",
        name="half",
        labels=made.labels,
        text=made.text,
        encoder=source,
        preprocess=made.preprocess,
    )
    assert [str(finding) for finding in bundle.verify(made.path)] == ["encoder.onnx: takes fp16, bundle.json says fp32"]


def test_an_encoder_that_is_no_onnx_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"not a model")
    source = bundle.EncoderSource(tmp_path / "junk.onnx", "image", "embedding", Precision.FP32)
    made = bundle.write(
        tmp_path / "b", name="b", labels=["x"], text=np.ones((1, 2)), encoder=source, preprocess=linear_encoder.HOW
    )
    (finding,) = bundle.verify(made.path)
    assert "is no ONNX encoder that runs here" in finding.problem
