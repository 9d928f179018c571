"""Softmax and cross-entropy in one function, because together they are simpler and safer than apart.

Its one idea: log softmax(z)_k = z_k - log(sum_j exp z_j), and subtracting the row's maximum from z changes nothing but
keeps exp from overflowing; no probability is ever put into a logarithm, so none needs a `+ 1e-9`.
"""

from .backend import get_array_module


def cross_entropy(logits, labels, *, validate: bool = True):
    """Mean cross-entropy of softmax(logits) against integer labels, and its gradient.

    logits: (N, K) float; labels: (N,) integers in 0..K-1. Returns `(loss, dlogits)`: a scalar in nats, and
    (softmax(logits) - onehot(labels)) / N of shape (N, K). Raises ValueError for other shapes, dtypes or labels;
    `fit` has checked its labels once and passes validate=False, which spares a GPU the wait for the answer.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(logits) == 0:
        raise ValueError(f"expected logits (N, K) and labels (N,) with N > 0, got {logits.shape} and {labels.shape}")
    if validate:
        check_labels(labels, logits.shape[1])
    xp = get_array_module(logits)
    rows = xp.arange(len(logits))
    shifted = logits - logits.max(axis=1, keepdims=True)  # the largest entry of each row is 0
    exponentials = xp.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    loss = (xp.log(sums[:, 0]) - shifted[rows, labels]).mean()
    dlogits = exponentials / sums  # the probabilities, and soon their difference from the one-hot labels
    dlogits[rows, labels] -= 1
    dlogits /= len(logits)
    return loss, dlogits


def check_labels(labels, num_classes: int) -> None:
    """Raise ValueError unless labels are integers in 0..num_classes-1 (a negative one would count from the end)."""
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels are class numbers: expected integers, got {labels.dtype} (one-hot? take the argmax)")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f"labels must lie in 0..{num_classes - 1}, got values from {low} to {high}")
