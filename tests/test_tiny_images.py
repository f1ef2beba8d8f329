import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedmq_models.tiny import captions, images, samples
from fedmq_models.tiny.images import CLASSES, DOMAINS, SIZE, draw
from fedmq_models.tiny.scene import NAMED

EVERY = [(domain, label) for domain in DOMAINS for label in CLASSES]


def pixels(domain: str, label: str = "cup", seed: int = 0, size: int = SIZE) -> np.ndarray:
    return np.asarray(draw(domain, label, seed, size)).astype(int)


def some(domain: str) -> np.ndarray:
    return np.stack([pixels(domain, label, seed) for label in CLASSES for seed in range(5)])


def test_there_are_four_domains_and_twelve_classes() -> None:
    assert DOMAINS == ("photo", "sketch", "cartoon", "painting")
    assert " ".join(CLASSES) == "tree house boat fish car cup star flower key umbrella mushroom lamp"


@pytest.mark.parametrize(("domain", "label"), EVERY)
def test_every_class_is_drawn_in_every_domain(domain: str, label: str) -> None:
    for seed in range(12):
        image = draw(domain, label, seed)
        assert (image.mode, image.size) == ("RGB", (SIZE, SIZE))
        assert np.asarray(image).std() > 8, f"seed {seed} is nearly blank"


@pytest.mark.parametrize("domain", DOMAINS)
def test_an_image_does_not_depend_on_what_was_drawn_before(domain: str) -> None:
    first = [draw(domain, label, 7).tobytes() for label in CLASSES]
    draw("photo", "tree", 8)
    assert [draw(domain, label, 7).tobytes() for label in reversed(CLASSES)] == first[::-1]


def test_another_process_draws_the_same_images_and_captions() -> None:
    here = hashlib.sha256()
    for domain, label in EVERY:
        here.update(draw(domain, label, 3).tobytes() + images.caption(domain, label, 3).encode())
    code = (
        "import hashlib, sys; from fedmq_models.tiny.images import *; h = hashlib.sha256()\n"
        "for d in DOMAINS:\n"
        "  for c in CLASSES: h.update(draw(d, c, 3).tobytes() + caption(d, c, 3).encode())\n"
        "print(h.hexdigest(), 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert there.stdout.split() == [here.hexdigest(), "False"]


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("size", [24, 96])
def test_an_image_is_the_same_picture_at_every_size(domain: str, size: int) -> None:
    small = min(size, SIZE)
    other = draw(domain, "house", 5, size).resize((small, small), Image.Resampling.BOX)
    usual = draw(domain, "house", 5).resize((small, small), Image.Resampling.BOX)
    assert np.abs(np.asarray(other).astype(int) - np.asarray(usual)).max() <= 2  # Pillow rounds after each pass


def test_an_enlarged_image_has_the_size_that_was_asked_for() -> None:
    assert draw("cartoon", "star", 0, 224).size == (224, 224)


def test_seeds_give_different_images() -> None:
    assert len({draw("cartoon", "fish", seed).tobytes() for seed in range(30)}) == 30


def test_only_sketches_are_without_colour() -> None:
    chroma = {domain: np.ptp(some(domain), axis=-1).mean() for domain in DOMAINS}
    assert chroma["sketch"] == 0
    assert min(chroma[domain] for domain in DOMAINS if domain != "sketch") > 20


def test_cartoons_are_flat_and_black_lined_and_photos_are_neither() -> None:
    flat = {domain: (np.diff(some(domain), axis=2) == 0).all(axis=-1).mean() for domain in DOMAINS}
    black = {domain: (some(domain).max(axis=-1) < 25).mean() for domain in DOMAINS}
    assert flat["cartoon"] > 0.5 > 10 * flat["photo"]
    assert black["cartoon"] > 0.04 > black["painting"]


def test_paintings_are_rougher_than_photos() -> None:
    rough = {domain: np.abs(np.diff(some(domain), axis=2)).mean() for domain in ("photo", "painting")}
    assert rough["painting"] > 1.3 * rough["photo"]


@pytest.mark.parametrize(("domain", "label", "named"), [("fresco", "cup", "cartoon"), ("photo", "dog", "mushroom")])
def test_an_unknown_domain_or_class_is_refused_with_those_that_exist(domain: str, label: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        draw(domain, label, 0)


@pytest.mark.parametrize(("domain", "label"), EVERY)
def test_a_caption_names_the_class_in_known_words(domain: str, label: str) -> None:
    texts = [images.caption(domain, label, seed) for seed in range(20)]
    assert all(label in text.split() for text in texts)
    assert {word for text in texts for word in text.split()} <= set(captions.words())


def test_captions_vary_and_some_name_a_colour_but_never_a_sketchs() -> None:
    photos = {images.caption("photo", "car", seed) for seed in range(100)}
    sketches = {images.caption("sketch", "car", seed) for seed in range(100)}
    assert len(photos) > 20
    assert any(set(text.split()) & set(NAMED) for text in photos)
    assert not any(set(text.split()) & set(NAMED) for text in sketches)


def test_a_caption_names_the_colour_that_is_seen() -> None:
    for seed in range(60):
        text = images.caption("cartoon", "star", seed)
        if {"red", "blue"} & set(text.split()):
            image = draw("cartoon", "star", seed)
            red, _, blue = np.asarray(image)[16:32, 16:32].reshape(-1, 3).mean(axis=0)
            assert (red > blue) == ("red" in text.split()), f"seed {seed}: {text}"


def test_writing_fills_class_folders_with_captioned_images(tmp_path: Path) -> None:
    assert images.write(tmp_path, "sketch", per_class=2, first_seed=40) == 24
    assert sorted(place.name for place in tmp_path.iterdir()) == sorted(CLASSES)
    with Image.open(tmp_path / "boat" / "000041.png") as image:
        assert image.info["Description"] == images.caption("sketch", "boat", 41)
        assert image.tobytes() == draw("sketch", "boat", 41).tobytes()


def test_writing_again_adds_only_what_is_missing(tmp_path: Path) -> None:
    images.write(tmp_path, "cartoon", per_class=2, first_seed=0)
    (tmp_path / "key" / "000001.png").unlink()
    kept = (tmp_path / "key" / "000000.png").stat().st_mtime_ns
    assert images.write(tmp_path, "cartoon", per_class=3, first_seed=0) == 12 + 1
    assert (tmp_path / "key" / "000000.png").stat().st_mtime_ns == kept


def test_a_disk_that_fills_up_leaves_whole_images_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, saved = Image.Image.save, []

    def full(image: Image.Image, path: Path, **options: Any) -> None:
        save(image, path, **options)
        saved.append(path)
        if len(saved) == 5:
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        images.write(tmp_path, "sketch", per_class=3, first_seed=0)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.suffix for path in files] == [".png"] * 4
    assert images.write(tmp_path, "sketch", per_class=3, first_seed=0) == 36 - 4


def test_samples_are_the_drawn_images_class_by_class() -> None:
    found = samples.drawn("sketch", per_class=2, first_seed=9)
    assert found.pixels.shape == (24, SIZE, SIZE, 3)
    assert found.labels.tolist() == [number for number in range(12) for _ in range(2)]
    assert found.pixels[5].tobytes() == draw("sketch", "boat", 10).tobytes()
    assert found.captions[5] == images.caption("sketch", "boat", 10)
