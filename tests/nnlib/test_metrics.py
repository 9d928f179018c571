import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlib import accuracy, confusion_matrix, precision_recall


def test_a_worked_example():
    labels, predictions = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    matrix = confusion_matrix(labels, predictions, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    precision, recall = precision_recall(matrix)
    np.testing.assert_allclose(precision, [1, 1 / 2, 1 / 2])
    np.testing.assert_allclose(recall, [2 / 3, 1 / 2, 1])
    assert accuracy(labels, predictions) == 4 / 6


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=50))
def test_the_matrix_counts_every_pair(pairs):
    labels, predictions = (np.array(column, np.uint8) for column in zip(*pairs, strict=True))
    matrix = confusion_matrix(labels, predictions, 5)
    assert all(matrix[i, j] == pairs.count((i, j)) for i in range(5) for j in range(5))
    assert np.trace(matrix) / matrix.sum() == pytest.approx(accuracy(labels, predictions))


def test_zero_over_zero_is_nan_and_said_so():
    matrix = np.array([[3, 0, 0], [1, 0, 0], [0, 0, 0]])
    with pytest.warns(UserWarning) as caught:
        precision, recall = precision_recall(matrix)
    messages = [str(warning.message) for warning in caught]
    assert messages == [
        "class 1, 2 was never predicted: its precision is 0/0, given as nan",
        "class 2 was never present: its recall is 0/0, given as nan",
    ]
    np.testing.assert_array_equal(precision, [0.75, np.nan, np.nan])
    np.testing.assert_array_equal(recall, [1, 0, np.nan])


def test_bad_input():
    good = np.array([0, 1])
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3,\)"):
        accuracy(good, np.zeros(3, int))
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1, got values from 0 to 2"):
        confusion_matrix(good, np.array([0, 2]), 2)
    with pytest.raises(ValueError, match=r"expected a confusion matrix \(K, K\), got \(2, 3\)"):
        precision_recall(np.ones((2, 3)))
    assert confusion_matrix([0, 1], np.array([1, 1], np.uint64), 2).tolist() == [[0, 1], [0, 1]]
    with pytest.raises(ValueError, match="expected two arrays"):
        confusion_matrix(np.zeros(0, int), np.zeros(0, int), 2)
