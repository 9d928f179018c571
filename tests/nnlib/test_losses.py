import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlib import cross_entropy, numerical_gradient
from nnlib.losses import check_labels


@given(n=st.integers(1, 6), k=st.integers(1, 7), scale=st.sampled_from([1.0, 30.0]), seed=st.integers(0, 99))
def test_gradient(n, k, scale, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(n, k)) * scale, rng.integers(0, k, n)
    _, dlogits = cross_entropy(logits, labels)
    numerical = numerical_gradient(lambda z: cross_entropy(z, labels)[0], logits)
    np.testing.assert_allclose(dlogits, numerical, atol=1e-7)


def test_known_values():
    loss, dlogits = cross_entropy(np.zeros((2, 10)), np.array([0, 9]))
    assert loss == pytest.approx(np.log(10))
    assert dlogits[0, 0] == pytest.approx(-0.45) and dlogits[1, 0] == pytest.approx(0.05)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_and_rows_of_very_different_size(dtype):
    logits = np.array([[1e4, 0, 0], [-1e4, 0, 0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]], dtype)
    loss, dlogits = cross_entropy(logits, np.array([0, 0, 1, 2]))
    assert dlogits.dtype == dtype
    assert loss == pytest.approx((0 + 1e4 + np.log(2) + 2 * np.log(3)) / 4, rel=1e-6)
    assert np.isfinite(dlogits).all()
    np.testing.assert_allclose(dlogits.sum(axis=1), 0, atol=1e-7)


def test_arguments_are_left_alone():
    logits, labels = np.ones((3, 2)), np.array([0, 1, 1])
    cross_entropy(logits, labels)
    assert (logits == 1).all() and labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.array([0, 3]), r"must lie in 0\.\.2, got values from 0 to 3"),
        (np.array([-1, 2]), r"must lie in 0\.\.2, got values from -1 to 2"),
        (np.array([0.0, 1.0]), "expected integers, got float64"),
        (np.eye(2, 3), r"expected logits \(N, K\) and labels \(N,\)"),
        (np.array([0, 1, 2]), r"got \(2, 3\) and \(3,\)"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(ValueError, match=message):
        cross_entropy(np.zeros((2, 3)), labels)


def test_an_empty_batch():
    with pytest.raises(ValueError, match="N > 0"):
        cross_entropy(np.zeros((0, 3)), np.zeros(0, int))
    check_labels(np.array([0, 2], np.uint8), 3)
