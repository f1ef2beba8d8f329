import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("open_clip")

import torch

from fedmq_models import bundle
from fedmq_models.bundle import digest
from fedmq_models.tiny import contrast, model, samples, score, train
from fedmq_models.tiny.images import DOMAINS, draw


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One quick training by the command line, for all tests here."""
    out = tmp_path_factory.mktemp("tiny")
    threads = torch.get_num_threads()
    train.main(["--out", str(out), "--quick"])
    torch.set_num_threads(threads)
    return SimpleNamespace(out=out, clip=out / "clip", record=json.loads((out / "clip" / train.RECORD).read_text()))


def test_a_quick_training_lowers_the_loss(trained: SimpleNamespace) -> None:
    losses = trained.record["losses"]
    assert len(losses) == train.QUICK.recipe.epochs
    assert losses[-1] < losses[0] - 0.2


def test_a_training_writes_everything_and_a_record_that_fits(trained: SimpleNamespace) -> None:
    assert {path.name for path in trained.clip.iterdir()} == {model.WEIGHTS, model.CONFIG, model.MERGES, train.RECORD}
    assert trained.record["weights_sha256"] == digest.sha256_file(trained.clip / model.WEIGHTS)
    assert set(trained.record["zero_shot_correct"]) == set(trained.record["adapted_correct"]) == set(DOMAINS)
    assert trained.record["tests_per_domain"] == 12 * train.QUICK.tests


def test_a_training_makes_a_sound_bundle_of_its_own_weights(trained: SimpleNamespace) -> None:
    assert bundle.verify(trained.out / "bundle") == []
    made = bundle.load(trained.out / "bundle")
    assert made.source["weights_sha256"] == trained.record["weights_sha256"]
    assert made.source["parity"]["min_cosine"] > 0.9999


def test_saved_weights_are_those_that_were_trained_to_half_precision(trained: SimpleNamespace, tmp_path: Path) -> None:
    once = model.load(trained.clip)
    model.prepare(tmp_path)
    model.save(once, tmp_path)
    assert (tmp_path / model.WEIGHTS).read_bytes() == (trained.clip / model.WEIGHTS).read_bytes()


def test_setting_the_feature_norm_changes_no_direction(trained: SimpleNamespace) -> None:
    made = model.load(trained.clip)
    drawn = np.stack([np.asarray(draw("photo", "fish", seed)) for seed in range(8)])
    before = score.features(made, drawn)
    train.set_feature_norm(made, drawn, 3.0)
    after = score.features(made, drawn)
    assert np.linalg.norm(after, axis=1).mean() == pytest.approx(3.0, rel=1e-4)
    ratio = after / before
    assert np.allclose(ratio, ratio.mean(), rtol=1e-2)


def test_the_loss_is_that_of_open_clip() -> None:
    from open_clip.loss import ClipLoss

    generator = torch.Generator().manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(7, 5, generator=generator), dim=1) for _ in range(2))
    scale = torch.tensor(14.0)
    assert torch.allclose(contrast.clip_loss(image, text, scale), ClipLoss()(image, text, scale))


def test_an_augmented_image_is_the_image_mirrored_or_not_and_moved() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    found = contrast.augmented(pixels, 2, np.random.default_rng(1))
    moved = 0
    for before, after in zip(pixels, found, strict=True):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)), mode="edge")
        views = [padded[y : y + 16, x : x + 16] for y in range(5) for x in range(5)]
        assert any(np.array_equal(after, other) for view in views for other in (view, view[:, ::-1]))
        moved += not np.array_equal(after, before)
    assert moved > 30


def test_without_a_shift_half_of_the_images_stay_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 3), dtype=np.uint8)
    found = contrast.augmented(pixels, 0, np.random.default_rng(1))
    assert 150 < sum(np.array_equal(a, b) for a, b in zip(pixels, found, strict=True)) < 250


def test_the_same_seed_trains_the_same_weights_and_another_seed_others() -> None:
    def weights(seed: int) -> bytes:
        drawn = samples.drawn("sketch", 4, 0)
        recipe = contrast.Recipe(epochs=1, batch=16, warmup_steps=1)
        torch.manual_seed(seed)
        made = model.untrained(model.CLIP)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        contrast.train(made, model.tokenizer(), drawn, recipe, seed, lambda loss: None)
        torch.set_num_threads(threads)
        return b"".join(value.numpy().tobytes() for value in made.state_dict().values())

    assert weights(1) == weights(1) != weights(2)
