"""How good a classifier is, and where it errs.

Its one idea: the confusion matrix holds it all; accuracy, precision and recall are sums over it.
"""

import warnings

import numpy as np

from .losses import check_labels


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Return the fraction, 0..1, of predictions (N,) that equal the labels (N,)."""
    labels, predictions = _pairs(labels, predictions)
    return float((labels == predictions).mean())


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the counts (num_classes, num_classes) int64: row = the true class, column = the predicted one.

    labels, predictions: (N,) integers in 0..num_classes-1. Raises ValueError for anything else.
    """
    labels, predictions = _pairs(labels, predictions)
    check_labels(labels, num_classes)
    check_labels(predictions, num_classes)
    pairs = labels.astype(np.int64) * num_classes + predictions.astype(np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def precision_recall(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (precision, recall), each (num_classes,), from a confusion matrix with the true classes as rows.

    precision[k]: of all samples called k, the fraction that are; recall[k]: of all samples that are k, the fraction
    called so. A class never predicted (or never present) has 0/0: that entry is nan, and a warning names the class.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"expected a confusion matrix (K, K), got {matrix.shape}")
    correct, predicted, present = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    for name, counted_as, totals in (("precision", "predicted", predicted), ("recall", "present", present)):
        if (totals == 0).any():
            classes = ", ".join(str(k) for k in np.flatnonzero(totals == 0))
            warnings.warn(f"class {classes} was never {counted_as}: its {name} is 0/0, given as nan", stacklevel=2)
    with np.errstate(invalid="ignore"):
        return correct / predicted, correct / present


def _pairs(labels, predictions) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"expected two arrays (N,) of classes, got {labels.shape} and {predictions.shape}")
    return labels, predictions
