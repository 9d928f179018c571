"""RNN and GRU: against the loops, against numerical gradients, against PyTorch; and what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnlib import GRU, RNN, Adam, Linear, Sequential, check_layer, clip_grad_norm, cross_entropy, normal, reference

LAYERS = [RNN, GRU]
sizes = st.integers(1, 5)


def make(cls, D, H, rng, **options):
    """A layer in float64 with biases that are not zero."""
    layer = cls(D, H, rng=rng, dtype=np.float64, **options)
    layer.params["b"][:] = rng.normal(size=layer.params["b"].shape)
    return layer


@given(n=sizes, t=sizes, d=sizes, h=sizes, sequences=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=40)
def test_rnn_equals_the_loops(n, t, d, h, sequences, seed):
    rng = np.random.default_rng(seed)
    layer, x, h0 = make(RNN, d, h, rng, return_sequences=sequences), rng.normal(size=(n, t, d)), np.zeros((n, h))
    states = reference.rnn(x, h0, *layer.params.values())
    out = layer.forward(x, training=True)
    np.testing.assert_allclose(out, states if sequences else states[:, -1], atol=1e-12)
    dout, dh = rng.normal(size=out.shape), np.zeros_like(states)
    dh[:, slice(None) if sequences else -1] = dout
    dx, _, *grads = reference.rnn_backward(dh, x, h0, states, layer.params["Wx"], layer.params["Wh"])
    np.testing.assert_allclose(layer.backward(dout), dx, atol=1e-12)
    for grad, expected in zip(layer.grads.values(), grads, strict=True):
        np.testing.assert_allclose(grad, expected, atol=1e-12)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("n, t, d, h", [(2, 5, 3, 4), (1, 1, 2, 3), (3, 1, 1, 1), (2, 9, 4, 4)])
@pytest.mark.parametrize("cls", LAYERS)
def test_numerical_gradients(cls, n, t, d, h, sequences, rng):
    check_layer(make(cls, d, h, rng, return_sequences=sequences), rng.normal(size=(n, t, d)), rng)


def twin(layer, D, H, dtype):
    """The same layer in PyTorch, which keeps its weights transposed, and a second bias that stays zero here."""
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch: pip install torch==2.13.0 (the CPU build)")
    theirs = getattr(torch.nn, type(layer).__name__)(D, H, batch_first=True, dtype=getattr(torch, np.dtype(dtype).name))
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(torch.from_numpy(layer.params["Wx"].T.copy()))
        theirs.weight_hh_l0.copy_(torch.from_numpy(layer.params["Wh"].T.copy()))
        theirs.bias_ih_l0.copy_(torch.from_numpy(layer.params["b"].copy()))
        theirs.bias_hh_l0.zero_()
    theirs.bias_hh_l0.requires_grad_(False)
    return torch, theirs


@given(n=sizes, t=st.integers(1, 9), d=sizes, h=sizes, sequences=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=40)
@pytest.mark.parametrize("cls", LAYERS)
def test_pytorch_agrees(cls, n, t, d, h, sequences, seed):
    rng = np.random.default_rng(seed)
    ours = make(cls, d, h, rng, return_sequences=sequences)
    torch, theirs = twin(ours, d, h, np.float64)
    x = rng.normal(size=(n, t, d))
    x_torch = torch.from_numpy(x).requires_grad_()
    out, out_torch = ours.forward(x, training=True), theirs(x_torch)[0]
    out_torch = out_torch if sequences else out_torch[:, -1]
    np.testing.assert_allclose(out, out_torch.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(ours.forward(x), out)  # prediction is the same computation
    ours.forward(x, training=True)
    dout = rng.normal(size=out.shape)
    out_torch.backward(torch.from_numpy(dout))
    np.testing.assert_allclose(ours.backward(dout), x_torch.grad.numpy(), rtol=1e-8, atol=1e-12)
    for name, grad in zip(ours.grads, (theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0), strict=True):
        np.testing.assert_allclose(ours.grads[name], grad.grad.numpy().T, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-9), (np.float32, 2e-5)])
@pytest.mark.parametrize("cls", LAYERS)
def test_ten_steps_of_pytorch(cls, dtype, rtol, rng):
    layer, head = cls(6, 8, rng=rng, dtype=dtype), Linear(8, 3, rng=rng, dtype=dtype)
    torch, recurrent = twin(layer, 6, 8, dtype)
    linear = torch.nn.Linear(8, 3, dtype=recurrent.weight_ih_l0.dtype)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(head.params["W"].T.copy()))
        linear.bias.zero_()
    ours = Sequential([layer, head])
    learnt = [*(p for p in recurrent.parameters() if p.requires_grad), *linear.parameters()]
    optimizer, optimizer_torch = Adam(ours, 0.01), torch.optim.Adam(learnt, 0.01)
    x, labels = rng.normal(size=(8, 7, 6)).astype(dtype), rng.integers(0, 3, 8)
    for _ in range(10):
        loss, dlogits = cross_entropy(ours.forward(x, training=True), labels)
        ours.backward(dlogits)
        norm = clip_grad_norm(ours, 0.5)
        optimizer.step()
        optimizer_torch.zero_grad()
        logits_torch = linear(recurrent(torch.from_numpy(x))[0][:, -1])
        loss_torch = torch.nn.functional.cross_entropy(logits_torch, torch.from_numpy(labels))
        loss_torch.backward()
        norm_torch = torch.nn.utils.clip_grad_norm_(learnt, 0.5)
        optimizer_torch.step()
        assert loss == pytest.approx(loss_torch.item(), rel=rtol) and norm == pytest.approx(norm_torch.item(), rel=rtol)
    for (_, param), param_torch in zip(ours.named_parameters(), learnt, strict=True):
        assert param.dtype == dtype
        np.testing.assert_allclose(param, param_torch.detach().numpy().T, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("cls", LAYERS)
def test_no_state_goes_from_batch_to_batch_or_from_sample_to_sample(cls, rng):
    layer, x = cls(3, 4, rng=rng), rng.normal(size=(5, 6, 3)).astype(np.float32)
    first = layer.forward(x).copy()
    layer.forward(rng.normal(size=(2, 9, 3)).astype(np.float32), training=True)
    np.testing.assert_array_equal(layer.forward(x), first)
    np.testing.assert_allclose(layer.forward(x[2:3])[0], first[2], atol=1e-6)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("cls", LAYERS)
def test_nothing_that_comes_in_is_changed_and_everything_stays_float32(cls, sequences, rng):
    layer = cls(3, 4, rng=rng, return_sequences=sequences)
    x = rng.normal(size=(5, 6, 3)).astype(np.float32)
    out = layer.forward(x, training=True)
    dout = rng.normal(size=out.shape).astype(np.float32)
    x_before, dout_before = x.copy(), dout.copy()
    dx, grads = layer.backward(dout), layer.grads
    again = layer.backward(dout)  # and backward may be asked twice
    assert np.array_equal(x, x_before) and np.array_equal(dout, dout_before) and np.array_equal(dx, again)
    assert dx.shape == x.shape and {a.dtype for a in (out, dx, *grads.values())} == {np.dtype(np.float32)}
    assert {key: grad.shape for key, grad in grads.items()} == {k: p.shape for k, p in layer.params.items()}
    assert layer.backward(dout, input_grad=False) is None
    assert all(np.array_equal(layer.grads[key], grads[key]) for key in grads)


@pytest.mark.parametrize("cls", LAYERS)
def test_large_inputs_saturate_without_a_warning(cls, rng):
    layer, x = cls(3, 4, rng=rng), np.full((2, 5, 3), 1e4, np.float32)
    out = layer.forward(x, training=True)
    assert np.isfinite(out).all() and np.isfinite(layer.backward(out)).all()


def test_the_recurrent_weights_begin_orthogonal_each_gate_for_itself(rng):
    for cls, gates in ((RNN, 1), (GRU, 3)):
        Wh = cls(3, 8, rng=rng, dtype=np.float64).params["Wh"]
        for block in np.split(Wh, gates, axis=1):
            np.testing.assert_allclose(np.linalg.svd(block, compute_uv=False), 1, atol=1e-12)
        assert cls(3, 8, rng=rng, init=normal(0.0)).params["Wh"].max() == 0


@pytest.mark.parametrize("cls", LAYERS)
def test_bad_input(cls, rng):
    layer, x = cls(28, 4, rng=rng), np.zeros((2, 28, 28), np.float32)
    name = cls.__name__
    with pytest.raises(ValueError, match=rf"{name} expects sequences \(N, T, 28\), got \(2, 28, 28, 1\).*reshape"):
        layer.forward(x[..., None])
    with pytest.raises(ValueError, match=r"got \(2, 28, 27\)"):
        layer.forward(x[:, :, 1:])
    with pytest.raises(ValueError, match=r"at least one step, got \(2, 0, 28\)"):
        layer.forward(x[:, :0])
    with pytest.raises(ValueError, match="expects floats, got uint8"):
        layer.forward(x.astype(np.uint8))
    with pytest.raises(RuntimeError, match=f"{name}.backward needs forward"):
        layer.backward(np.zeros((2, 4), np.float32))
    layer.forward(x, training=True)
    with pytest.raises(ValueError, match=rf"{name}.backward expects dout \(2, 4\), got \(2, 28, 4\)"):
        layer.backward(np.zeros((2, 28, 4), np.float32))
    layer.forward(x)
    with pytest.raises(RuntimeError, match="needs forward"):
        layer.backward(np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="at least 1 input and 1 hidden unit, got 0 and 4"):
        cls(0, 4, rng=rng)


@pytest.mark.parametrize("cls", LAYERS)
def test_an_empty_batch_gives_an_empty_result(cls, rng):
    assert cls(3, 4, rng=rng).forward(np.zeros((0, 5, 3), np.float32)).shape == (0, 4)
