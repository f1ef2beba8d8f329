"""The encoder on a node: the right features, in order, whatever the device, the batch and the state of the files."""

import itertools
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import linear_encoder
from evaluation_data import DATA, needs
from fedmq_models import bundle, classifier
from fedmq_models.bundle import Bundle
from fedmq_models.encode import Device, Encoder, devices, encoder, read_pixels, stream
from fedmq_models.encode.bound import BoundRun
from fedmq_models.errors import (
    BundleMismatch,
    BundleUnreadable,
    DeviceMissing,
    FeaturesNotFinite,
    ImageUnreadable,
    OptionInvalid,
    RuntimeMissing,
    SourceUnreadable,
)

SIZE, DIM = linear_encoder.SIZE, linear_encoder.DIM


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return linear_encoder.write_bundle(tmp_path_factory.mktemp("bundles") / "linear", scale=10.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty-one images, of which number 5 is cut and number 13 is text."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{number:02}.png" for number in range(21)]
    for number, path in enumerate(paths):
        levels = np.random.default_rng(number).integers(0, 256, (11 + number, 13, 3), dtype=np.uint8)
        Image.fromarray(levels).save(path)
    paths[5].write_bytes(paths[5].read_bytes()[:100])
    paths[13].write_text("no picture")
    return paths


READABLE = [number for number in range(21) if number not in (5, 13)]


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 3, SIZE, SIZE)).astype(np.float32)


def as_on_a_gpu(bundle_: Bundle, **options: int) -> Encoder:
    """The GPU's code path with its arrays on the CPU: bound runs of a fixed shape, batches joined from pieces."""
    made = Encoder(bundle_, "cpu", **options)
    made.device = Device.CUDA
    shape = (made.batch, 3, SIZE, SIZE)
    made._run = BoundRun(made._session, "image", "embedding", shape, DIM, made._dtype, "cpu")
    return made


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 17])
def test_features_are_the_encoders_output_times_the_bundles_scale(linear: Bundle, threads: int, count: int) -> None:
    found = Encoder(linear, "cpu", threads=threads).encode(noise(count))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 10 * linear_encoder.features(noise(count)), rtol=1e-4, atol=1e-4)


def test_an_encoder_in_fp16_takes_and_gives_float32(tmp_path: Path) -> None:
    half = Encoder(linear_encoder.write_bundle(tmp_path / "half", half=True), "cpu")
    found = half.encode(noise(5))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, linear_encoder.features(noise(5)), atol=0.05)


@pytest.mark.parametrize("count", [1, 8, 9, 20])
def test_bound_runs_of_a_fixed_shape_give_what_plain_runs_give(linear: Bundle, count: int) -> None:
    plain, bound = Encoder(linear, "cpu", batch=8), as_on_a_gpu(linear, batch=8)
    np.testing.assert_allclose(bound.encode(noise(count)), plain.encode(noise(count)), rtol=1e-4, atol=1e-4)


def test_padding_never_leaks_from_one_batch_into_the_next(linear: Bundle) -> None:
    bound = as_on_a_gpu(linear, batch=4)
    first = bound.encode(noise(1))
    bound.encode(np.full((4, 3, SIZE, SIZE), 1e6, dtype=np.float32))
    np.testing.assert_array_equal(bound.encode(noise(1)), first)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("batch", [1, 4, 50])
def test_files_come_back_in_order_and_bad_ones_are_skipped_and_named(
    linear: Bundle, files: list[Path], threads: int, on_gpu: bool, batch: int
) -> None:
    make = as_on_a_gpu if on_gpu else Encoder
    skipped: list[tuple[int, str]] = []

    def note(position: int, _source: object, fault: ImageUnreadable) -> None:
        skipped.append((position, str(fault)))

    pieces = list(make(linear, threads=threads, batch=batch).encode_files(files, note))
    positions = np.concatenate([positions for positions, _ in pieces])
    assert positions.tolist() == READABLE
    assert [position for position, _ in skipped] == [5, 13]
    assert all(str(files[position]) in sentence for position, sentence in skipped)
    pixels = np.stack([read_pixels(files[number], linear_encoder.HOW) for number in READABLE])
    found = np.concatenate([features for _, features in pieces])
    np.testing.assert_allclose(found, 10 * linear_encoder.features(pixels), rtol=1e-4, atol=1e-4)


def test_bytes_of_files_are_encoded_like_the_files(linear: Bundle, files: list[Path]) -> None:
    by_path, by_bytes = (
        np.concatenate([features for _, features in Encoder(linear, "cpu").encode_files(sources)])
        for sources in (files, [path.read_bytes() for path in files])
    )
    np.testing.assert_array_equal(by_path, by_bytes)


def test_only_bad_files_and_no_files_give_no_features(linear: Bundle, files: list[Path]) -> None:
    made = Encoder(linear, "cpu", batch=2)
    skipped: list[int] = []
    assert list(made.encode_files([files[5], files[13]] * 3, lambda position, *_: skipped.append(position))) == []
    assert skipped == [0, 1, 2, 3, 4, 5]
    assert list(made.encode_files([])) == []


@pytest.mark.parametrize("on_gpu", [False, True])
def test_memory_is_bounded_however_many_files_there_are(linear: Bundle, files: list[Path], on_gpu: bool) -> None:
    read = 0

    def endless() -> Iterator[Path]:
        nonlocal read
        for path in itertools.cycle([files[0]]):
            read += 1
            yield path

    made = (as_on_a_gpu if on_gpu else Encoder)(linear, threads=2, batch=4)
    given = 0
    lead = []
    stream_ = made.encode_files(endless())
    for positions, _ in itertools.islice(stream_, 50):
        given += len(positions)
        lead.append(read - given)
    stream_.close()  # type: ignore[attr-defined]
    assert max(lead) <= (2 + 2) * 4 + 8


def test_stopping_early_leaves_no_thread_behind(linear: Bundle, files: list[Path]) -> None:
    before = set(threading.enumerate())
    pieces = Encoder(linear, "cpu", threads=3).encode_files(files * 50)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) == before


def test_an_encoder_that_gives_nan_is_an_error_and_not_a_feature(tmp_path: Path) -> None:
    made = Encoder(linear_encoder.write_bundle(tmp_path / "nan", encoder={"nan": True}), "cpu")
    with pytest.raises(FeaturesNotFinite, match=r"the encoder of linear \(fp32\) gives NaN or Inf for 2 of 2 images"):
        made.encode(noise(2))


def test_an_encoder_of_another_dim_than_its_bundle_is_refused(tmp_path: Path) -> None:
    made = Encoder(linear_encoder.write_bundle(tmp_path / "b", encoder={"dim": 5}), "cpu")
    with pytest.raises(BundleMismatch, match=r"gives shape \(2, 5\) for 2 images, bundle linear says dim 6"):
        made.encode(noise(2))


def test_pixels_of_another_size_are_refused_with_both(linear: Bundle) -> None:
    with pytest.raises(BundleMismatch, match=r"shape \(1, 3, 9, 9\), bundle linear takes \(n, 3, 8, 8\)"):
        Encoder(linear, "cpu").encode(np.zeros((1, 3, 9, 9), dtype=np.float32))


def test_another_encoder_file_than_the_manifests_is_refused_with_both_digests(linear: Bundle, tmp_path: Path) -> None:
    copy = bundle.load(shutil.copytree(linear.path, tmp_path / "copy"))
    linear_encoder.write_encoder(copy.encoder_path, seed=1)
    assert linear.encoder is not None
    with pytest.raises(BundleMismatch, match=rf"has digest \w+, its bundle says {linear.encoder.sha256}"):
        Encoder(copy, "cpu")


def test_a_features_only_bundle_has_nothing_to_encode_with(tmp_path: Path) -> None:
    made = bundle.write(tmp_path / "b", name="b", labels=["x"], text=np.ones((1, 2)))
    with pytest.raises(BundleUnreadable, match="has no encoder: it takes features, not images"):
        Encoder(made)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"not a model")
    source = bundle.EncoderSource(tmp_path / "junk.onnx", "image", "embedding", bundle.Precision.FP32)
    made = bundle.write(
        tmp_path / "b", name="b", labels=["x"], text=np.ones((1, 2)), encoder=source, preprocess=linear_encoder.HOW
    )
    with pytest.raises(SourceUnreadable, match="is no ONNX encoder that runs here"):
        Encoder(made, "cpu")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"threads": 0}, "threads is 0; it must be at least 1"),
        ({"batch": -1}, "batch is -1; it must be at least 1"),
        ({"device": "gpu"}, "device is 'gpu'; known are auto, cpu, cuda, tensorrt"),
    ],
)
def test_an_option_that_cannot_be_is_refused(linear: Bundle, options: dict[str, int | str], problem: str) -> None:
    with pytest.raises(OptionInvalid, match=problem):
        Encoder(linear, **options)  # type: ignore[arg-type]


class CpuOnly:
    """An onnxruntime that has the providers of a GPU build, but whose GPU does not start."""

    def __init__(self, *providers: str) -> None:
        import onnxruntime

        self._real = onnxruntime
        self._providers = list(providers)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def preload_dlls(self) -> None:
        pass

    def get_available_providers(self) -> list[str]:
        return self._providers

    def InferenceSession(self, path: str, options: object, providers: list[object]) -> object:  # noqa: N802
        return self._real.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def test_auto_takes_the_cpu_where_there_is_nothing_better_and_says_why(
    linear: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "onnxruntime", lambda: CpuOnly("CPUExecutionProvider"))
    made = Encoder(linear, "auto")
    assert (made.device, made._session.get_providers()) == (Device.CPU, ["CPUExecutionProvider"])
    assert made.note == "running on cpu: this onnxruntime has no CUDAExecutionProvider"


def test_auto_falls_back_when_the_gpu_is_listed_but_does_not_start(
    linear: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "onnxruntime", lambda: CpuOnly("CUDAExecutionProvider", "CPUExecutionProvider"))
    made = Encoder(linear, "auto")
    assert made.device is Device.CPU
    assert made.note == "running on cpu: cuda does not start (its driver or libraries are missing)"


def test_the_cpu_by_name_needs_no_excuse(linear: Bundle) -> None:
    assert Encoder(linear, "cpu").note is None


@pytest.mark.parametrize(
    ("device", "providers", "problem"),
    [
        ("cuda", ["CPUExecutionProvider"], "this onnxruntime has no CUDAExecutionProvider"),
        ("tensorrt", ["CPUExecutionProvider"], "this onnxruntime has no TensorrtExecutionProvider"),
        ("cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda does not start"),
    ],
)
def test_a_device_by_name_that_is_missing_is_an_error_that_lists_what_is_there(
    linear: Bundle, monkeypatch: pytest.MonkeyPatch, device: str, providers: list[str], problem: str
) -> None:
    monkeypatch.setattr(devices, "onnxruntime", lambda: CpuOnly(*providers))
    with pytest.raises(DeviceMissing) as missing:
        Encoder(linear, device)
    assert problem in str(missing.value)
    assert f"available here: {', '.join(providers)}" in str(missing.value)


def test_without_onnxruntime_the_error_says_how_to_install_it(linear: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeMissing) as missing:
        Encoder(linear)
    assert 'pip install "fedmq[cpu]"' in str(missing.value)
    assert 'pip install "fedmq[gpu]"' in str(missing.value)
    assert devices.findings() == [str(missing.value)]


def test_both_variants_of_onnxruntime_at_once_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.findings() == []
    monkeypatch.setattr(metadata, "version", lambda _name: "1.0")
    (finding,) = devices.findings()
    assert "are both installed" in finding


def test_a_lane_takes_no_more_cores_than_this_process_may_use(linear: Bundle) -> None:
    assert Encoder(linear, "cpu").threads == len(os.sched_getaffinity(0))


def test_a_piece_of_unreadable_images_decodes_to_no_rows(files: list[Path]) -> None:
    piece = stream.decode([(5, files[5]), (13, files[13])], linear_encoder.HOW)
    assert piece.rows.shape == (0, 3, SIZE, SIZE)
    assert [position for position, _, _ in piece.skipped] == [5, 13]


@pytest.mark.gpu
def test_the_gpu_gives_the_features_of_the_cpu(linear: Bundle, files: list[Path]) -> None:
    if "CUDAExecutionProvider" not in devices.available():
        pytest.skip("this onnxruntime has no CUDAExecutionProvider")
    on_cpu, on_gpu = (
        np.concatenate([features for _, features in Encoder(linear, device).encode_files(files)])
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-3, atol=1e-3)


@needs("mobilenet_v2_clip", "pacs", "pacs_features_mobilenet_v2_clip.npz")
def test_real_images_give_the_published_features_and_their_zero_shot_accuracy(tmp_path: Path) -> None:
    made = Encoder(mobilenet(tmp_path / "bundle"), "cpu")
    labels, text = made.bundle.labels, made.bundle.text
    published = np.load(DATA / "pacs_features_mobilenet_v2_clip.npz")
    rows = classifier.normalised(published["features"])
    for domain, known in {"art_painting": 0.548, "cartoon": 0.402, "photo": 0.856, "sketch": 0.172}.items():
        is_here = published["domains"] == domain
        assert classifier.accuracy(rows[is_here], text, published["labels"][is_here]) == pytest.approx(known, abs=1e-3)

        paths = [path for label in labels for path in sorted((DATA / "pacs" / domain / label).iterdir())]
        classes = np.array([labels.index(path.parent.name) for path in paths])
        features = np.concatenate([features for _, features in made.encode_files(paths)])
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 10, atol=1e-3)
        # The published rows carry no file names, so an image's own is the nearest of its domain and class.
        cosines = (features / 10) @ rows.T
        cosines[~(is_here & (published["labels"] == classes[:, None]))] = -1
        assert cosines.max(axis=1).min() > 0.998
        assert np.median(cosines.max(axis=1)) > 0.999
        own = rows[cosines.argmax(axis=1)]
        found, expected = (classifier.accuracy(each, text, classes) for each in (features, own))
        assert found == pytest.approx(expected, abs=0.03)


def mobilenet(out: Path) -> Bundle:
    from fedmq_models import export
    from fedmq_models.bundle import Interpolation, Preprocess, Resize

    unit = (128 / 255,) * 3
    labels, text = export.class_text(DATA / "pacs_features_mobilenet_v2_clip.npz")
    return export.from_onnx(
        DATA / "mobilenet_v2_clip" / "encoder.onnx",
        labels=labels,
        text=text,
        preprocess=Preprocess(224, Resize.SHORT_SIDE, Interpolation.BICUBIC, unit, unit),
        out=out,
        scale=10.0,
    )


def test_the_defaults_of_a_batch_are_those_that_were_measured(linear: Bundle) -> None:
    assert Encoder(linear, "cpu").batch == encoder.CPU_BATCH == 4
