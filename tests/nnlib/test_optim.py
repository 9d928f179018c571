import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlib import SGD, Adam, Linear, Sequential, clip_grad_norm, warmup_cosine


def model_with_gradients(rng):
    model = Sequential([Linear(3, 2, rng=rng), Linear(2, 2, rng=rng)])
    model.forward(rng.normal(size=(4, 3)).astype(np.float32), training=True)
    model.backward(np.ones((4, 2), np.float32))
    return model


def test_plain_sgd(rng):
    model = model_with_gradients(rng)
    before, gradients = model.copy_weights(), dict(model.named_gradients())
    SGD(model, lr=0.5).step()
    for name, param in model.named_parameters():
        np.testing.assert_allclose(param, before[name] - 0.5 * gradients[name], rtol=1e-6)


def test_steps_change_parameters_in_place_and_gradients_not_at_all(rng):
    for optimizer in (lambda m: SGD(m, 0.1, momentum=0.9, weight_decay=0.1), Adam):
        model = model_with_gradients(rng)
        params = [param for _, param in model.named_parameters()]
        gradients = {name: grad.copy() for name, grad in model.named_gradients()}
        opt = optimizer(model)
        opt.step()
        opt.step()
        assert all(old is new for old, (_, new) in zip(params, model.named_parameters(), strict=True))
        assert all(param.dtype == np.float32 for param in params)
        assert all(np.array_equal(gradients[name], grad) for name, grad in model.named_gradients())


def test_adams_first_step_has_the_size_of_the_learning_rate(rng):
    model = model_with_gradients(rng)
    before = model.copy_weights()
    Adam(model, lr=0.01).step()
    for name, param in model.named_parameters():
        np.testing.assert_allclose(np.abs(param - before[name]), 0.01, rtol=1e-3)


def test_the_state_of_a_parameter_is_its_own(rng):
    optimizer = Adam(model_with_gradients(rng))
    optimizer.step()
    arrays = [array for state in optimizer.state.values() for array in state.values()]
    assert len(arrays) == 8 and len({id(array) for array in arrays}) == 8


def test_errors(rng):
    model = Sequential([Linear(3, 2, rng=rng)])
    for make in (SGD, Adam):
        with pytest.raises(ValueError, match="learning rate above 0"):
            make(model, lr=0)
        with pytest.raises(RuntimeError, match=r"0\.W has no gradient yet"):
            make(model, lr=0.1).step()
    with pytest.raises(ValueError, match="momentum < 1"):
        SGD(model, 0.1, momentum=1.0)
    with pytest.raises(ValueError, match="betas"):
        Adam(model, betas=(0.9, 1.0))
    with pytest.raises(RuntimeError, match="no gradients to clip"):
        clip_grad_norm(model, 1.0)
    with pytest.raises(ValueError, match="max_norm above 0"):
        clip_grad_norm(model_with_gradients(rng), 0.0)
    with pytest.raises(ValueError, match="warm-up fraction"):
        warmup_cosine(1.0)


def test_clipping(rng):
    model = model_with_gradients(rng)
    gradients = {name: grad.copy() for name, grad in model.named_gradients()}
    norm = np.sqrt(sum((grad.astype(np.float64) ** 2).sum() for grad in gradients.values()))
    assert clip_grad_norm(model, norm * 2) == pytest.approx(norm, rel=1e-6)
    assert all(np.array_equal(grad, gradients[name]) for name, grad in model.named_gradients())
    assert clip_grad_norm(model, norm / 4) == pytest.approx(norm, rel=1e-6)
    for name, grad in model.named_gradients():
        np.testing.assert_allclose(grad, gradients[name] / 4, rtol=1e-5)


@given(total=st.integers(1, 300), warmup=st.floats(0, 0.99))
def test_warmup_cosine_climbs_to_one_and_falls_without_reaching_zero(total, warmup):
    factors = [warmup_cosine(warmup)(step, total) for step in range(total)]
    top = int(warmup * total)
    assert factors[top] == 1.0
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_warmup_cosine_at_its_corners():
    assert warmup_cosine(0.1)(0, 1) == 1.0
    assert warmup_cosine(0.0)(0, 10) == 1.0
    assert warmup_cosine(0.5)(0, 10) == pytest.approx(1 / 6)
    assert warmup_cosine(0.0)(5, 10) == pytest.approx(0.5)
    assert warmup_cosine(0.0)(9, 10) == pytest.approx(0.5 + 0.5 * np.cos(0.9 * np.pi))


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("total", [1, 2, 3, 10, 101])
def test_warmup_cosine_at_the_first_and_the_last_step(warmup, total):
    factor, climbing = warmup_cosine(warmup), int(warmup * total)
    assert factor(0, total) == (1.0 if climbing == 0 else 1 / (climbing + 1))
    falling = total - climbing  # at least one step: the top itself
    assert factor(total - 1, total) == pytest.approx(np.cos(np.pi * (falling - 1) / falling / 2) ** 2, rel=1e-9)
    if total == 1:
        assert factor(0, 1) == 1.0  # a run of one step takes it at the full rate
