"""The same networks in PyTorch: forward, every gradient, and fifty optimizer steps must agree."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlib import SGD, Adam, Linear, ReLU, Sequential, Tanh, clip_grad_norm, cross_entropy

torch = pytest.importorskip("torch", reason="the oracle is PyTorch: pip install torch==2.13.0 (the CPU build)")
sizes = st.integers(1, 7)


def twins(sizes, activation, seed, dtype=np.float64):
    """The same network with the same weights in nnlib and in PyTorch, whose Linear keeps W as (out, in)."""
    rng = np.random.default_rng(seed)
    ours, theirs = [], []
    for d, m in itertools.pairwise(sizes):
        layer = Linear(d, m, rng=rng, dtype=dtype)
        layer.params["b"][:] = rng.normal(size=m)
        twin = torch.nn.Linear(d, m, dtype=torch.float64 if dtype == np.float64 else torch.float32)
        with torch.no_grad():
            twin.weight.copy_(torch.from_numpy(layer.params["W"].T.copy()))
            twin.bias.copy_(torch.from_numpy(layer.params["b"].copy()))
        ours += [layer, activation[0]()]
        theirs += [twin, activation[1]()]
    return Sequential(ours[:-1]), torch.nn.Sequential(*theirs[:-1]), rng


def gradients(theirs):
    return [p.grad.numpy().T for p in theirs.parameters()]


ACTIVATIONS = [(ReLU, torch.nn.ReLU), (Tanh, torch.nn.Tanh)]


@given(
    n=sizes,
    widths=st.lists(sizes, min_size=2, max_size=4),
    activation=st.sampled_from(ACTIVATIONS),
    seed=st.integers(0, 9),
)
def test_forward_and_every_gradient(n, widths, activation, seed):
    ours, theirs, rng = twins(widths, activation, seed)
    x, labels = rng.normal(size=(n, widths[0])), rng.integers(0, widths[-1], n)
    x_torch = torch.from_numpy(x.copy()).requires_grad_()
    logits_torch = theirs(x_torch)
    loss_torch = torch.nn.functional.cross_entropy(logits_torch, torch.from_numpy(labels))
    loss_torch.backward()
    logits = ours.forward(x, training=True)
    loss, dlogits = cross_entropy(logits, labels)
    dx = ours.backward(dlogits, input_grad=True)
    np.testing.assert_allclose(logits, logits_torch.detach().numpy(), rtol=1e-10, atol=1e-12)
    assert loss == pytest.approx(loss_torch.item(), rel=1e-10)
    np.testing.assert_allclose(dx, x_torch.grad.numpy(), rtol=1e-8, atol=1e-12)
    for (_, grad), grad_torch in zip(ours.named_gradients(), gradients(theirs), strict=True):
        np.testing.assert_allclose(grad, grad_torch, rtol=1e-8, atol=1e-12)


OPTIMIZERS = {
    "sgd": (lambda m: SGD(m, 0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum and decay": (
        lambda m: SGD(m, 0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
    ),
    "decay alone": (lambda m: SGD(m, 0.1, weight_decay=0.05), lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.05)),
    "adam": (lambda m: Adam(m, 0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "adam, other betas": (
        lambda m: Adam(m, 0.05, betas=(0.5, 0.8), eps=1e-3),
        lambda p: torch.optim.Adam(p, 0.05, betas=(0.5, 0.8), eps=1e-3),
    ),
}


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-9), (np.float32, 1e-5)])
@pytest.mark.parametrize("max_norm", [None, 0.5, 0.05])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fifty_steps(name, max_norm, dtype, rtol):
    ours, theirs, rng = twins([6, 5, 4], ACTIVATIONS[1], seed=1, dtype=dtype)
    optimizer, optimizer_torch = OPTIMIZERS[name][0](ours), OPTIMIZERS[name][1](theirs.parameters())
    x, labels = rng.normal(size=(8, 6)).astype(dtype), rng.integers(0, 4, 8)
    clipped = 0
    for _ in range(50):
        loss, dlogits = cross_entropy(ours.forward(x, training=True), labels)
        ours.backward(dlogits)
        optimizer_torch.zero_grad()
        loss_torch = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(labels))
        loss_torch.backward()
        if max_norm is not None:
            norm = clip_grad_norm(ours, max_norm)
            assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs.parameters(), max_norm).item(), rel=rtol)
            clipped += norm > max_norm
        optimizer.step()
        optimizer_torch.step()
        assert loss == pytest.approx(loss_torch.item(), rel=rtol)
    for (_, param), param_torch in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(param, param_torch.detach().numpy().T, rtol=rtol, atol=rtol * 0.1)
    assert max_norm != 0.05 or clipped > 20  # tight enough to be at work
