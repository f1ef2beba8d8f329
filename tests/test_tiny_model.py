import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmq_models import bundle
from fedmq_models.bundle import digest
from fedmq_models.bundle.onnx_file import signature
from fedmq_models.encode import preprocess
from fedmq_models.tiny import captions, model, score, tokens
from fedmq_models.tiny.images import CLASSES, DOMAINS, draw
from fedmq_models.tiny.train import RECORD

# Disjoint from what the model was trained on, chosen by and scored on.
FRESH_SEED = 700_000
PER_CLASS = 10


@pytest.fixture(scope="module")
def shipped() -> bundle.Bundle:
    return bundle.load("tiny")


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model.CLIP / RECORD).read_text())
    return found


def pixels(domain: str, shipped: bundle.Bundle) -> np.ndarray:
    drawn = [draw(domain, label, FRESH_SEED + i) for label in CLASSES for i in range(PER_CLASS)]
    assert shipped.preprocess is not None
    return np.stack([preprocess.pixels(image, shipped.preprocess) for image in drawn])


def encode(images: np.ndarray, shipped: bundle.Bundle) -> np.ndarray:
    return signature(shipped.encoder_path).run(images)


def test_merges_go_on_until_every_word_is_one_symbol_and_break_ties_alphabetically() -> None:
    assert tokens.learn(["cup", "cap", "a"]) == [("a", "p</w>"), ("c", "ap</w>"), ("c", "u"), ("cu", "p</w>")]


def test_the_commonest_pair_is_merged_first() -> None:
    assert tokens.learn(["xab", "yab", "zab"])[0] == ("a", "b</w>")


def test_a_merges_file_has_a_header_and_no_final_newline(tmp_path: Path) -> None:
    tokens.write(tmp_path / "merges.gz", [("a", "b</w>")])
    assert gzip.decompress((tmp_path / "merges.gz").read_bytes()).split(b"\n")[1:] == [b"a b</w>"]


def test_the_shipped_folder_has_the_merges_and_the_configuration_of_its_own_captions(tmp_path: Path) -> None:
    model.prepare(tmp_path)
    assert (tmp_path / model.CONFIG).read_text() == (model.CLIP / model.CONFIG).read_text()
    merges = [gzip.decompress((folder / model.MERGES).read_bytes()) for folder in (tmp_path, model.CLIP)]
    assert merges[0] == merges[1]


def test_every_caption_word_is_one_token_and_every_text_fits() -> None:
    pytest.importorskip("open_clip")
    tokenize = model.tokenizer()
    assert tokenize.vocab_size == tokens.vocabulary_size(tokens.learn(captions.words()))
    assert {word: len(tokenize.encode(word)) for word in captions.words()} == dict.fromkeys(captions.words(), 1)
    longest = "an orange umbrella in the shade"
    found = tokenize([longest, *(f"a picture of a {label}" for label in CLASSES), "zebras, quite unheard of " * 9])
    assert found.shape == (14, model.CONTEXT)
    assert int((found[0] != 0).sum()) == 8
    assert int(found.max()) == tokenize.vocab_size - 1


def test_the_record_belongs_to_the_weights_and_the_bundle_to_both(
    record: dict[str, Any], shipped: bundle.Bundle
) -> None:
    weights = digest.sha256_file(model.CLIP / model.WEIGHTS)
    assert (record["weights_sha256"], shipped.source["weights_sha256"]) == (weights, weights)


def test_the_record_says_that_photos_are_read_and_the_rest_is_to_be_won(record: dict[str, Any]) -> None:
    n = record["tests_per_domain"]
    before, after = ({d: record[key][d] / n for d in DOMAINS} for key in ("zero_shot_correct", "adapted_correct"))
    assert n >= 720
    assert before["photo"] >= 0.94
    assert after["photo"] >= before["photo"] - 0.03
    for domain in DOMAINS[1:]:
        assert 0.40 <= before[domain] <= 0.65
        assert after[domain] >= before[domain] + 0.10


def test_the_shipped_bundle_is_sound(shipped: bundle.Bundle) -> None:
    assert bundle.verify("tiny") == []
    assert (shipped.labels, shipped.prompts, shipped.dim) == (CLASSES, ("a picture of a {}",), 256)
    assert shipped.preprocess == model.PREPROCESS
    assert shipped.scale == 1.0


def test_what_ships_is_small() -> None:
    assert (model.CLIP / model.WEIGHTS).stat().st_size < 3_300_000
    assert bundle.load("tiny").encoder_path.stat().st_size < 3_000_000


@pytest.mark.parametrize(("domain", "least", "most"), [("photo", 0.88, 1.0), *((d, 0.3, 0.75) for d in DOMAINS[1:])])
def test_the_shipped_encoder_reads_fresh_photos_well_and_the_rest_by_half(
    domain: str, least: float, most: float, shipped: bundle.Bundle
) -> None:
    labels = np.repeat(np.arange(len(CLASSES)), PER_CLASS)
    accuracy = score.correct(encode(pixels(domain, shipped), shipped), shipped.text, labels) / len(labels)
    assert least <= accuracy <= most


def test_features_have_the_norm_that_the_adapter_expects(shipped: bundle.Bundle) -> None:
    norms = np.linalg.norm(encode(pixels("photo", shipped), shipped), axis=1)
    assert norms.mean() == pytest.approx(10, rel=0.1)


def test_a_drawn_image_is_only_scaled_and_shifted_by_preprocessing(shipped: bundle.Bundle) -> None:
    image = draw("photo", "tree", 1)
    assert shipped.preprocess is not None
    mean, std = np.array(shipped.preprocess.mean), np.array(shipped.preprocess.std)
    expected = (np.asarray(image) / 255 - mean) / std
    assert np.abs(preprocess.pixels(image, shipped.preprocess).transpose(1, 2, 0) - expected).max() < 1e-5


def test_the_bundle_computes_what_the_trained_model_computes(shipped: bundle.Bundle) -> None:
    pytest.importorskip("open_clip")
    trained = model.load()
    drawn = np.stack([np.asarray(draw(domain, label, 1)) for domain in DOMAINS for label in CLASSES])
    images = model.normalised(drawn)
    expected, found = score.features(trained, drawn), encode(images.numpy(), shipped)
    cosines = (expected * found).sum(1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.9999
    assert np.abs(score.class_text(trained, model.tokenizer()) - shipped.text).max() < 1e-5
    assert shipped.logit_scale == pytest.approx(float(trained.logit_scale.detach().exp()))


def test_open_clip_loads_the_folder_by_itself() -> None:
    open_clip = pytest.importorskip("open_clip")
    loaded, _, transform = open_clip.create_model_and_transforms(f"local-dir:{model.CLIP}")
    image = draw("painting", "lamp", 2)
    drawn = np.asarray(image)[None]
    assert np.abs(transform(image).numpy() - model.normalised(drawn)[0].numpy()).max() < 1e-5
    assert np.allclose(score.features(loaded.eval(), drawn), score.features(model.load(), drawn), atol=1e-4)
