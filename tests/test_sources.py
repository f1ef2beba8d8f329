"""Where a node's features come from: folders of images, and files of features."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from safetensors.numpy import save_file

from fedmq_models import bundle as bundles
from fedmq_models.bundle import Bundle
from fedmq_models.tiny import images as tiny
from fedmq_nodes import sources
from fedmq_nodes.cache import FeatureCache
from fedmq_nodes.errors import CacheUnusable, DataUnusable
from fedmq_nodes.files import Choice, read
from fedmq_nodes.images import in_test_split, scan
from fedmq_nodes.sources import FeatureFile, Images, Split
from toy import DIM, LABELS, bundle, features


def picture(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.new("RGB", (48, 48), colour).save(path)
    return path


def nothing(_done: int, _total: int) -> None:
    """Progress that nobody watches."""


# Folders of images


def test_images_are_found_below_their_class_folders_whatever_their_suffix_says(tmp_path: Path) -> None:
    picture(tmp_path / "dog" / "one.png", (1, 1, 1))
    picture(tmp_path / "dog" / "deep" / "two.JPG", (2, 2, 2))
    picture(tmp_path / "cat" / "three.webp", (3, 3, 3))
    picture(tmp_path / "cat" / ".hidden.png", (4, 4, 4))
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    found = scan(tmp_path, LABELS)
    assert sorted((image.path.name, LABELS[image.label]) for image in found.images) == [
        ("one.png", "dog"),
        ("three.webp", "cat"),
        ("two.JPG", "dog"),
    ]


def test_classes_that_the_federation_has_no_name_for_are_counted(tmp_path: Path) -> None:
    picture(tmp_path / "dog" / "one.png", (1, 1, 1))
    picture(tmp_path / "newt" / "a.png", (2, 2, 2))
    picture(tmp_path / "newt" / "b.png", (3, 3, 3))
    assert scan(tmp_path, LABELS).unknown == {"newt": 2}


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], r"holds no images \(.*\.png.*\) in class folders such as"),
        (["newt/a.png"], "has the classes newt, the federation cat, dog, owl: none in common"),
    ],
)
def test_no_images_or_no_class_in_common_is_a_sentence(tmp_path: Path, names: list[str], sentence: str) -> None:
    for name in names:
        picture(tmp_path / name, (1, 1, 1))
    with pytest.raises(DataUnusable, match=sentence):
        scan(tmp_path, LABELS)


def test_a_path_that_is_no_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="is not a folder"):
        scan(tmp_path / "nowhere", LABELS)


def test_an_image_never_changes_its_split_when_others_come_or_it_is_renamed(tmp_path: Path) -> None:
    paths = [picture(tmp_path / "dog" / f"{i}.png", (i, 0, 0)) for i in range(60)]

    def held_back() -> set[bytes]:
        keys = [image.key for image in scan(tmp_path, LABELS).images]
        return {key for key, is_test in zip(keys, in_test_split(keys, 0.3), strict=True) if is_test}

    before = held_back()
    assert 5 <= len(before) <= 35
    paths[0].rename(paths[0].with_name("renamed.png"))
    for i in range(60, 90):
        picture(tmp_path / "dog" / f"{i}.png", (i, 0, 0))
    after = held_back()
    assert before <= after
    assert len(after) > len(before)


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    tiny.write(tmp_path / "drawn", "sketch", 2, tiny.UNSEEN)
    return tmp_path / "drawn"


def encoded(folder: Path, cache: Path, progress: sources.Progress = nothing) -> sources.Data:
    found = bundles.load("tiny")
    return Images(folder, found, cache, "cpu", 1).load(found.labels, Split(0.25), progress)


def test_each_image_is_encoded_once_and_a_new_one_alone_later(drawn: Path, tmp_path: Path) -> None:
    first = encoded(drawn, tmp_path / "cache")
    again = encoded(drawn, tmp_path / "cache")
    picture(drawn / "tree" / "new.png", (9, 9, 9))
    later = encoded(drawn, tmp_path / "cache")
    assert [data.encoded for data in (first, again, later)] == [24, 0, 1]
    assert len(first.train) + len(first.test) == 24
    np.testing.assert_array_equal(first.train.batch(slice(None)), again.train.batch(slice(None)))


def test_a_cache_with_a_bound_gives_every_node_its_own_features(drawn: Path, tmp_path: Path) -> None:
    """Two nodes that share a cache with room for one of them, in turns."""
    found, cache = bundles.load("tiny"), tmp_path / "cache"
    for number in range(20):
        picture(tmp_path / "other" / "tree" / f"{number}.png", (number, 90, 200 - number))
    room = FeatureCache(tmp_path / "measured", found.feature_space, found.dim).room(30)
    right = {folder: encoded(folder, tmp_path / f"own-{folder.name}") for folder in (drawn, tmp_path / "other")}
    for folder, count in [(drawn, 24), (tmp_path / "other", 20), (drawn, 14), (drawn, 0)]:
        data = Images(folder, found, cache, "cpu", 1, cache_bytes=room).load(found.labels, Split(0.25), nothing)
        whole, rows = slice(None), len(FeatureCache(cache, found.feature_space, found.dim))
        assert (data.encoded, rows) == (count, 30 if folder is not drawn or count != 24 else 24)
        np.testing.assert_array_equal(data.train.batch(whole), right[folder].train.batch(whole))
        np.testing.assert_array_equal(data.train.labels, right[folder].train.labels)
    with pytest.raises(CacheUnusable, match="features of 24 images take .* bytes, cache_bytes is 1000; raise it"):
        Images(drawn, found, cache, "cpu", 1, cache_bytes=1000).load(found.labels, Split(), nothing)


def test_a_corrupt_or_truncated_image_is_skipped_counted_and_named(drawn: Path, tmp_path: Path) -> None:
    whole = next((drawn / "tree").glob("*.png")).read_bytes()
    (drawn / "tree" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (drawn / "tree" / "corrupt.jpg").write_bytes(b"this is no image")
    data = encoded(drawn, tmp_path / "cache")
    assert (data.encoded, sorted(Path(path).name for path in data.skipped)) == (24, ["corrupt.jpg", "truncated.png"])


def test_if_no_image_can_be_read_the_first_is_named(tmp_path: Path) -> None:
    (tmp_path / "drawn" / "tree").mkdir(parents=True)
    (tmp_path / "drawn" / "tree" / "bad.png").write_bytes(b"nothing")
    with pytest.raises(DataUnusable, match="none of 1 images can be read, such as .*bad.png"):
        encoded(tmp_path / "drawn", tmp_path / "cache")


def test_an_interrupted_encoding_resumes(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "KEPT_TOGETHER", 4)

    def interrupt(done: int, _total: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoded(drawn, tmp_path / "cache", interrupt)
    assert encoded(drawn, tmp_path / "cache").encoded == 12


def test_progress_counts_up_to_all(drawn: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    encoded(drawn, tmp_path / "cache", lambda done, total: told.append((done, total)))
    assert (told[0], told[-1]) == ((0, 24), (24, 24))
    assert told == sorted(told)


def test_another_encoder_encodes_all_anew(drawn: Path, tmp_path: Path) -> None:
    encoded(drawn, tmp_path / "cache")
    found = bundles.load("tiny")
    other = bundles.write(
        tmp_path / "other",
        name="other",
        labels=found.labels,
        text=found.text,
        encoder=bundles.EncoderSource(found.encoder_path, "pixels", "features", bundles.Precision.FP32),
        preprocess=found.preprocess,
        scale=2.0,
    )
    data = Images(drawn, other, tmp_path / "cache", "cpu", 1).load(found.labels, Split(), nothing)
    assert data.encoded == 24


# Files of features


@pytest.fixture
def toy(tmp_path: Path) -> Bundle:
    return bundle(tmp_path / "toy")


def loaded(path: Path, found: Bundle, choice: Choice | None = None, split: Split | None = None) -> sources.Data:
    return FeatureFile(path, found, choice or Choice({})).load(LABELS, split or Split(0.25), nothing)


def test_npz_and_safetensors_give_the_same_examples(tmp_path: Path, toy: Bundle) -> None:
    values, labels = features(40, 0)
    np.savez(tmp_path / "f.npz", features=values, labels=labels)
    save_file({"features": values, "labels": labels}, tmp_path / "f.safetensors")
    one, other = loaded(tmp_path / "f.npz", toy), loaded(tmp_path / "f.safetensors", toy)
    np.testing.assert_array_equal(one.train.batch(slice(None)), other.train.batch(slice(None)))
    np.testing.assert_array_equal(one.test.labels, other.test.labels)
    assert len(one.train) + len(one.test) == 40


def test_labels_may_be_names_and_unknown_ones_are_left_out(tmp_path: Path, toy: Bundle) -> None:
    values, _ = features(4, 0)
    np.savez(tmp_path / "f.npz", features=values, labels=np.array(["owl", "newt", "cat", "owl"]))
    data = loaded(tmp_path / "f.npz", toy, split=Split(0.0))
    assert data.train.labels.tolist() == [2, 0, 2]
    np.testing.assert_array_equal(data.train.batch(slice(None)), values[[0, 2, 3]])


def test_numbers_mean_the_files_own_classes_where_it_has_them(tmp_path: Path, toy: Bundle) -> None:
    values, _ = features(3, 0)
    np.savez(tmp_path / "f.npz", features=values, labels=[0, 1, 2], classes=np.array(["owl", "newt", "cat"]))
    assert loaded(tmp_path / "f.npz", toy, split=Split(0.0)).train.labels.tolist() == [2, 0]


def test_the_users_own_split_is_kept(tmp_path: Path, toy: Bundle) -> None:
    (train, a), (test, b) = features(9, 0), features(5, 1)
    np.savez(tmp_path / "f.npz", train_features=train, train_labels=a, test_features=test, test_labels=b)
    data = loaded(tmp_path / "f.npz", toy)
    apart = loaded(tmp_path / "f.npz", toy, split=Split(train=False))
    assert [len(part) for part in (data.train, data.test, apart.train, apart.test)] == [9, 5, 0, 5]


def test_rows_are_chosen_by_column_and_dealt_out_in_parts(tmp_path: Path, toy: Bundle) -> None:
    values, labels = features(20, 0)
    domain = np.array(["photo", "sketch"] * 10)
    np.savez(tmp_path / "f.npz", features=values, labels=labels, domain=domain)
    whole = loaded(tmp_path / "f.npz", toy, Choice({"domain": "sketch"}), Split(0.0)).train
    parts = [loaded(tmp_path / "f.npz", toy, Choice({"domain": "sketch"}, (k, 3)), Split(0.0)).train for k in (1, 2, 3)]
    assert [len(part) for part in parts] == [4, 3, 3]
    dealt = np.concatenate([part.batch(slice(None)) for part in parts])
    assert sorted(map(tuple, dealt.tolist())) == sorted(map(tuple, whole.batch(slice(None)).tolist()))


def test_features_of_a_file_are_scaled_as_the_bundle_says(tmp_path: Path) -> None:
    values, labels = features(6, 0)
    np.savez(tmp_path / "f.npz", features=values, labels=labels)
    scaled = bundles.write(
        tmp_path / "scaled", name="toy", labels=LABELS, text=np.eye(3, DIM), declared_space="toy", scale=10.0
    )
    data = loaded(tmp_path / "f.npz", scaled, split=Split(0.0))
    np.testing.assert_allclose(data.train.batch(slice(None)), 10 * values, rtol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "choice", "sentence"),
    [
        ({"x": np.zeros(3)}, {}, "holds x; needed are features and labels"),
        ({"features": np.zeros((3, DIM))}, {}, "need labels, which are None"),
        ({"features": np.zeros((3, DIM)), "labels": np.zeros(2, int)}, {}, r"of shape \(3, 8\) need labels"),
        ({"features": np.full((3, DIM), np.nan), "labels": np.zeros(3, int)}, {}, "hold NaN or infinity"),
        ({"features": np.zeros((3, DIM)), "labels": np.zeros(3, int)}, {"domain": "x"}, "has no column 'domain'"),
        (
            {"features": np.zeros((3, DIM)), "labels": np.zeros(3, int), "domain": np.array(["a"] * 3)},
            {"domain": "x"},
            "has no row where {'domain': 'x'}",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(
    tmp_path: Path,
    arrays: dict[str, Any],
    choice: dict[str, str],
    sentence: str,
) -> None:
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(DataUnusable, match=sentence):
        read(tmp_path / "f.npz", Choice(choice))


def test_a_file_of_another_dimension_or_without_a_known_class_is_refused(tmp_path: Path, toy: Bundle) -> None:
    np.savez(tmp_path / "wide.npz", features=np.zeros((3, 9)), labels=np.zeros(3, int))
    with pytest.raises(DataUnusable, match="has features of 9 dimensions, toy has 8"):
        loaded(tmp_path / "wide.npz", toy)
    np.savez(tmp_path / "strange.npz", features=np.zeros((3, DIM)), labels=np.array(["newt"] * 3))
    with pytest.raises(DataUnusable, match="has no class that the federation knows: cat, dog, owl"):
        loaded(tmp_path / "strange.npz", toy)


@pytest.mark.parametrize("name", ["f.npz", "f.safetensors"])
def test_garbage_and_pickles_are_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"garbage")
    with pytest.raises(DataUnusable, match="is not a readable"):
        read(tmp_path / name, Choice({}))
    np.savez(tmp_path / "pickled.npz", features=np.array([{}], dtype=object), labels=np.zeros(1, int))
    with pytest.raises(DataUnusable, match="is not a readable"):
        read(tmp_path / "pickled.npz", Choice({}))
