"""Preprocessing equals open_clip's own transform, and no image file can do worse than be refused by name."""

import contextlib
import io
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fedmq_models.bundle import Interpolation, Preprocess, Resize
from fedmq_models.encode import images, open_image, pixels, read_pixels
from fedmq_models.errors import ImageUnreadable
from fedmq_nodes.images import SUFFIXES

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
HOW = Preprocess(32, Resize.SHORT_SIDE, Interpolation.BICUBIC, MEAN, STD)
MODES = ("RGB", "L", "P", "P with transparent entries", "RGBA", "LA", "1", "CMYK", "YCbCr")
SHAPES = ((32, 32), (33, 47), (47, 33), (101, 32), (32, 101), (227, 227), (7, 5), (64, 200))


def drawing(width: int, height: int, mode: str) -> Image.Image:
    rng = np.random.default_rng([width, height])
    levels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(levels)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8)))
        return image
    if mode == "P with transparent entries":
        image = image.quantize(16)
        image.info["transparency"] = bytes([0, 128] + [255] * 14)
        return image
    return image.quantize(16) if mode == "P" else image.convert(mode)


def as_open_clip(image: Image.Image, how: Preprocess) -> np.ndarray:
    from open_clip.transform import image_transform

    transform = image_transform(
        how.size,
        is_train=False,
        mean=how.mean,
        std=how.std,
        resize_mode="squash" if how.resize is Resize.SQUASH else "shortest",
        interpolation=str(how.interpolation),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's about transparency in palettes
        found: np.ndarray = transform(image.copy()).numpy()
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interpolation", list(Interpolation))
@pytest.mark.parametrize("resize", list(Resize))
def test_pixels_equal_open_clips_transform_to_the_bit(mode: str, interpolation: Interpolation, resize: Resize) -> None:
    how = Preprocess(32, resize, interpolation, MEAN, STD)
    for width, height in SHAPES:
        image = drawing(width, height, mode)
        np.testing.assert_array_equal(pixels(image, how), as_open_clip(image, how), err_msg=f"{width}x{height}")


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 40))
def test_any_shape_rounds_as_torchvision_does(width: int, height: int, size: int) -> None:
    how = Preprocess(size, Resize.SHORT_SIDE, Interpolation.BICUBIC, MEAN, STD)
    image = drawing(width, height, "RGB")
    np.testing.assert_array_equal(pixels(image, how), as_open_clip(image, how))


def test_an_orientation_tag_is_not_applied_as_in_open_clip() -> None:
    image = drawing(40, 50, "RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(read_pixels(file.getvalue(), HOW), as_open_clip(image, HOW))


def test_pixels_go_into_a_row_of_a_batch() -> None:
    batch = np.full((2, 3, 32, 32), np.nan, dtype=np.float32)
    image = drawing(40, 50, "RGB")
    pixels(image, HOW, batch[1])
    np.testing.assert_array_equal(batch[1], pixels(image, HOW))
    assert np.isnan(batch[0]).all()


def saved(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


FILES = {kind: saved(drawing(24, 20, "RGB"), kind) for kind in images.FORMATS}


@pytest.mark.parametrize("kind", ["TIFF", "EPS"])
def test_kinds_that_are_no_photographs_are_refused_with_those_that_are(kind: str) -> None:
    with pytest.raises(ImageUnreadable, match="image cannot be read: its bytes are none of JPEG, PNG"):
        open_image(saved(drawing(24, 20, "RGB"), kind))


def test_nodes_look_for_the_suffixes_of_these_kinds_only() -> None:
    Image.init()
    assert {Image.EXTENSION[suffix] for suffix in SUFFIXES} == set(images.FORMATS)


@pytest.mark.parametrize("kind", images.FORMATS)
def test_every_kind_of_file_is_read_from_a_path_and_from_bytes(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(FILES[kind])
    np.testing.assert_array_equal(read_pixels(path, HOW), read_pixels(FILES[kind], HOW))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_image_is_refused_and_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.img"
    for length in range(0, len(FILES[kind]) * 3 // 4, 7):
        path.write_bytes(FILES[kind][:length])
        with pytest.raises(ImageUnreadable, match=r"cut\.img cannot be read: ."):
            open_image(path)


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(images.FORMATS), data=st.data())
def test_mutated_bytes_give_an_image_or_a_named_refusal(kind: str, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        found = read_pixels(bytes(content), HOW)
    except ImageUnreadable:
        return
    assert found.shape == (3, 32, 32)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("kind", images.FORMATS)
def test_no_decoder_prints_what_it_finds_wrong(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        content = np.frombuffer(FILES[kind], dtype=np.uint8).copy()
        content[rng.integers(0, len(content), 4)] = rng.integers(0, 256, 4)
        with contextlib.suppress(ImageUnreadable):
            open_image(content[: rng.integers(1, 2 * len(content))].tobytes())
    assert capfd.readouterr() == ("", "")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ImageUnreadable):
        open_image(content)


def test_text_in_an_image_file_is_refused_with_what_would_be_read(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no picture")
    with pytest.raises(ImageUnreadable, match=r"notes\.jpg cannot be read: its bytes are none of JPEG, PNG"):
        open_image(tmp_path / "notes.jpg")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable, match=r"gone\.png cannot be read: No such file"):
        open_image(tmp_path / "gone.png")


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (12_000, 12_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_before_its_pixels_are_made(width: int, height: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(width, height))
    with pytest.raises(ImageUnreadable, match=rf"bomb\.png has {width}x{height} = {width * height} pixels, limit is"):
        open_image(path)


def test_pillows_own_limit_is_as_it_was_after_many_threads_have_read() -> None:
    before = Image.MAX_IMAGE_PIXELS
    ready = threading.Barrier(8)

    def read(_number: int) -> int:
        ready.wait()
        return open_image(FILES["PNG"]).width

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, range(8))) == [24] * 8
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_sliver_is_refused_rather_than_enlarged_without_bound(tmp_path: Path) -> None:
    drawing(900, 3, "RGB").save(tmp_path / "sliver.png")
    with pytest.raises(ImageUnreadable, match=r"sliver\.png: image is 900x3; one side is more than 100 times"):
        read_pixels(tmp_path / "sliver.png", HOW)
