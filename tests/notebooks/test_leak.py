"""The lie that notebook 07 measures is no accident of its seed: its own functions, on other seeds and without MNIST.

The functions are read from the notebook's source, so what is tested here is what the student sees.
"""

import ast
import math

import numpy as np
import pytest

from tools.shared import notebooks

REPEATS = 60


@pytest.fixture(scope="module")
def functions():
    """The notebook's own candidate_scores and expected_best."""
    found = {"np": np}
    notebook = notebooks.read_source(notebooks.ROOT / "notebooks" / "07_optimizers.py")
    for cell, _ in notebooks.code_cells(notebook):
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef) and node.name in ("candidate_scores", "expected_best"):
                exec(compile(ast.Module([node], []), "07_optimizers.py", "exec"), found)
    return found


def scores(functions, seed):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(1500, 49)).astype(np.float32)
    return np.array([functions["candidate_scores"](images, rng) for _ in range(REPEATS)])


@pytest.mark.parametrize("seed", range(5, 11))
def test_the_best_of_96_lies_by_three_points_and_a_fresh_test_set_tells_it(functions, seed):
    test, validation, fresh = scores(functions, seed).reshape(REPEATS, 3, -1).transpose(1, 0, 2)
    story = np.arange(REPEATS)
    winner = test.argmax(axis=1)
    assert (test[story, winner] - fresh[story, winner]).mean() > 0.03
    assert abs(fresh[story, winner].mean() - 0.1) < 0.012
    assert abs(test[story, validation.argmax(axis=1)].mean() - 0.1) < 0.012
    assert test.max(axis=1).mean() < functions["expected_best"](96, 250, 0.1)


def test_more_candidates_lie_more(functions):
    test = scores(functions, 11)[:, 0]  # (REPEATS, rates, seeds, epochs)
    best = [table.reshape(REPEATS, -1).max(axis=1).mean() for table in (test[:, 0, 0], test[:, 0], test)]
    assert best[0] < best[1] < best[2]


@pytest.mark.parametrize("candidates, n, p", [(1, 7, 0.3), (3, 5, 0.5), (10, 4, 0.9), (96, 3, 0.01)])
def test_the_expected_best_is_exact(functions, candidates, n, p):
    chances = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    at_most = [sum(chances[: k + 1]) ** candidates for k in range(n + 1)]
    exact = sum(k * (at_most[k] - (at_most[k - 1] if k else 0)) for k in range(n + 1)) / n
    assert functions["expected_best"](candidates, n, p) == pytest.approx(exact, rel=1e-12)


def test_the_expected_best_of_one_is_no_lie(functions):
    assert functions["expected_best"](1, 10_000, 0.986) == pytest.approx(0.986, rel=1e-9)
