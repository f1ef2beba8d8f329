"""The classifier: cosines, whatever the norm of a feature, and no NaN from a feature without one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq_models import classifier
from fedmq_models.errors import BundleMismatch

TEXT = np.eye(3, 4, dtype=np.float32)


def test_logits_are_scaled_cosines() -> None:
    features = np.array([[3.0, 4.0, 0.0, 0.0]])
    np.testing.assert_allclose(classifier.logits(features, TEXT, 100.0), [[60, 80, 0]], rtol=1e-6)


@given(st.floats(1e-3, 1e6))
def test_the_norm_of_a_feature_does_not_matter(norm: float) -> None:
    features = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_allclose(
        classifier.logits(norm * features, TEXT, 1.0), classifier.logits(features, TEXT, 1.0), atol=1e-5
    )


def test_a_feature_of_zeros_has_logits_of_zero() -> None:
    np.testing.assert_array_equal(classifier.logits(np.zeros((1, 4)), TEXT, 100.0), np.zeros((1, 3)))


def test_halves_are_widened_before_they_are_squared() -> None:
    features = np.full((1, 4), 60000, dtype=np.float16)
    np.testing.assert_allclose(classifier.logits(features, TEXT, 1.0), np.full((1, 3), 0.5), rtol=1e-5)


def test_accuracy_is_the_share_of_nearest_classes() -> None:
    features = np.eye(4, dtype=np.float32)[[0, 1, 2, 0]]
    assert classifier.predict(features, TEXT).tolist() == [0, 1, 2, 0]
    assert classifier.accuracy(features, TEXT, np.array([0, 1, 1, 1])) == 0.5
    assert np.isnan(classifier.accuracy(features[:0], TEXT, np.array([], dtype=int)))


def test_probabilities_add_up_to_one_even_for_huge_logits() -> None:
    found = classifier.probabilities(np.array([[1e4, 0.0, -1e4], [1.0, 1.0, 1.0]], dtype=np.float32))
    np.testing.assert_allclose(found, np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]), rtol=1e-6)


def test_features_of_another_dim_or_count_are_refused() -> None:
    with pytest.raises(BundleMismatch, match=r"shape \(2, 5\), the bundle's text has dim 4"):
        classifier.logits(np.ones((2, 5)), TEXT, 1.0)
    with pytest.raises(BundleMismatch, match="2 features and 3 labels"):
        classifier.accuracy(np.ones((2, 4)), TEXT, np.zeros(3, dtype=int))
