"""Optimizers: what to do with a gradient once back-propagation has found it.

Their one idea: `step()` walks over the model's parameters and changes each in place; whatever an optimizer remembers
of a parameter (a velocity, two moments) is kept under that parameter's own name in `state`. Names, arguments and
results are those of `torch.optim`.
"""

import math
from collections.abc import Callable

import numpy as np

from .backend import get_array_module

Schedule = Callable[[int, int], float]
BLOCK = 1 << 15  # numbers: a block, its gradient, two moments and two results on the way are 0.8 MB


class Optimizer:
    """What SGD and Adam share: the model, the learning rate, and per-parameter state that can be saved and restored."""

    def __init__(self, model, lr: float):
        if not lr > 0:
            raise ValueError(f"expected a learning rate above 0, got {lr}")
        self.model, self.lr, self.steps = model, lr, 0
        self.state: dict[str, dict] = {}

    def step(self) -> None:
        """Change every parameter once, by the gradients of the last backward."""
        self.steps += 1
        gradients = dict(self.model.named_gradients())
        for name, param in self.model.named_parameters():
            if name not in gradients:
                raise RuntimeError(f"parameter {name} has no gradient yet: call model.backward(...) before step()")
            if name not in self.state:
                self.state[name] = self.start(param)
            grad, state = gradients[name], self.state[name]
            for rows in _blocks(param):
                self.update(param[rows], grad[rows], {key: array[rows] for key, array in state.items()})


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay (an L2 penalty), as in `torch.optim.SGD`.

    g = grad + weight_decay * param;  velocity = momentum * velocity + g;  param -= lr * velocity.
    """

    def __init__(self, model, lr: float, momentum: float = 0.0, weight_decay: float = 0.0):
        super().__init__(model, lr)
        if not 0 <= momentum < 1 or weight_decay < 0:
            raise ValueError(f"expected 0 <= momentum < 1 and weight_decay >= 0, got {momentum} and {weight_decay}")
        self.momentum, self.weight_decay = momentum, weight_decay

    def start(self, param) -> dict:
        """Return the state of a parameter before its first step."""
        return {"velocity": get_array_module(param).zeros_like(param)} if self.momentum else {}

    def update(self, param, grad, state: dict) -> None:
        """Change some rows of a parameter, and of its state, in place."""
        if self.weight_decay:
            grad = grad + self.weight_decay * param
        if self.momentum:
            velocity = state["velocity"]
            velocity *= self.momentum
            velocity += grad
            grad = velocity
        param -= self.lr * grad


class Adam(Optimizer):
    """Adam with bias correction (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980), as in `torch.optim.Adam`.

    m and v are running means of the gradient and of its square; both start at 0, so early on they are too small by
    1 - beta^t, and dividing by that corrects them: param -= lr * m_hat / (sqrt(v_hat) + eps).
    """

    def __init__(self, model, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8):
        super().__init__(model, lr)
        if not all(0 <= beta < 1 for beta in betas) or not eps > 0:
            raise ValueError(f"expected betas in [0, 1) and eps above 0, got {betas} and {eps}")
        self.betas, self.eps = betas, eps

    def start(self, param) -> dict:
        """Return the state of a parameter before its first step."""
        xp = get_array_module(param)
        return {"m": xp.zeros_like(param), "v": xp.zeros_like(param)}

    def update(self, param, grad, state: dict) -> None:
        """Change some rows of a parameter, and of its state, in place."""
        m, v, (beta1, beta2) = state["m"], state["v"], self.betas
        m *= beta1
        m += (1 - beta1) * grad
        v *= beta2
        v += (1 - beta2) * grad * grad
        # m_hat / (sqrt(v_hat) + eps), with both corrections moved onto two numbers instead of two arrays
        correction1, correction2 = 1 - beta1**self.steps, math.sqrt(1 - beta2**self.steps)
        denominator = get_array_module(v).sqrt(v)
        denominator += self.eps * correction2
        param -= (self.lr * correction2 / correction1) * m / denominator


def _blocks(param) -> list[slice]:
    """Cut a parameter into blocks of rows that fit a processor's cache: an update passes over them a dozen times."""
    if get_array_module(param) is not np:
        return [slice(None)]
    rows = max(1, BLOCK * len(param) // param.size)
    return [slice(i, i + rows) for i in range(0, len(param), rows)]


def warmup_cosine(warmup: float = 0.1) -> Schedule:
    """Return a schedule: the learning rate climbs linearly, then falls along half a cosine towards 0.

    warmup: the fraction of all steps that climb, in [0, 1). A schedule is a function `(step, total_steps) -> factor` of
    the optimizer's learning rate, with steps counted from 0; here the factor is in (0, 1], 1 at the top
    (Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983; Goyal et al. 2017, https://arxiv.org/abs/1706.02677).
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"expected a warm-up fraction in [0, 1), got {warmup}")

    def factor(step: int, total_steps: int) -> float:
        climbing = int(warmup * total_steps)
        if step < climbing:
            return (step + 1) / (climbing + 1)
        return 0.5 + 0.5 * math.cos(math.pi * (step - climbing) / (total_steps - climbing))

    return factor


def clip_grad_norm(model, max_norm: float):
    """Scale all gradients together so that their joint L2 norm is at most max_norm; return the norm before clipping.

    As `torch.nn.utils.clip_grad_norm_` (Pascanu et al. 2013, https://arxiv.org/abs/1211.5063). The norm is a scalar on
    the gradients' own device: reading it there would make a GPU wait at every step.
    """
    if not max_norm > 0:
        raise ValueError(f"expected max_norm above 0, got {max_norm}")
    gradients = [grad for _, grad in model.named_gradients()]
    if not gradients:
        raise RuntimeError("there are no gradients to clip: call model.backward(...) first")
    xp = get_array_module(gradients[0])
    norm = xp.sqrt(sum((grad * grad).sum() for grad in gradients))
    scale = xp.minimum(max_norm / (norm + 1e-6), 1.0)
    for grad in gradients:
        grad *= scale
    return norm
