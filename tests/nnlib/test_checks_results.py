"""Whatever a student's function returns, and however it cheats: the check says so in plain words."""

import types

import numpy as np
import pytest

from nnlib import CheckFailed, checks
from nnlib.checks.core import Task

TASKS = [(check, place) for check, tasks in checks.TASKS.items() for place in range(len(tasks))]
IDS = [f"{check.__name__}-{checks.TASKS[check][place].name}" for check, place in TASKS]
each_task = pytest.mark.parametrize("check, place", TASKS, ids=IDS)


def run_with(check, place, change):
    """Run a check on right functions, of which the one at `place` is changed: change(right) -> function."""
    functions = [task.right for task in checks.TASKS[check]]
    functions[place] = change(functions[place])
    check(*functions)


def with_result(value, number=0):
    """Return a change that replaces one result by value(right result)."""

    def change(right):
        def function(*arguments):
            results = right(*arguments)
            if not isinstance(results, tuple):
                return value(results)
            return (*results[:number], value(results[number]), *results[number + 1 :])

        return function

    return change


class Raises:
    def __array__(self, *arguments, **named):
        raise RuntimeError("no array")


class Lies(float):
    shape, dtype = (4, 5), None

    def __array__(self, *arguments, **named):
        return self

    def __eq__(self, other):
        raise KeyError("never equal")

    __hash__ = None


class Matrix:  # what scipy.sparse gives, seen from outside
    def __init__(self, array):
        self.shape, self.dtype, self.array = array.shape, array.dtype, array


class SureOfItself(np.ndarray):
    def __eq__(self, other):
        return True

    def __array_ufunc__(self, *arguments, **named):
        raise TypeError("no arithmetic here")


class NoLength(list):
    def __len__(self):
        raise ValueError("how long?")

    def __iter__(self):
        raise ValueError("what comes first?")


def disguised(array):
    return array.view(SureOfItself)


HOSTILE = {
    "ragged": (lambda right: [[1.0, 2.0], [3.0]], "rows are not all of the same length"),
    "arrays of many lengths": (lambda right: [np.zeros(2), np.zeros(3)], "rows are not all of the same length"),
    "text": (lambda right: "0.5", "holds text, expected real numbers"),
    "None inside": (lambda right: [1.0, None], "holds objects, expected real numbers"),
    "dict": (lambda right: {"y": right}, "is a dict, expected an array"),
    "set": (lambda right: {1.0}, "is a set, expected an array"),
    "generator": (lambda right: (row for row in ()), "is a generator, expected an array"),
    "sparse": (Matrix, "is a Matrix, expected an array"),
    "a function": (lambda right: np.sin, "is a ufunc, expected an array"),
    "masked": (
        lambda right: np.ma.masked_array(right, np.ones(np.shape(right))),
        "is a MaskedArray, expected an array",
    ),
    "objects": (lambda right: np.asarray(right).astype(object), "holds objects, expected real numbers"),
    "complex": (lambda right: right + 0j, "holds complex numbers, expected real numbers"),
    "dates": (lambda right: np.zeros(np.shape(right), "datetime64[s]"), "expected real numbers"),
    "records": (lambda right: np.zeros(np.shape(right), [("y", float)]), "expected real numbers"),
    "bool": (lambda right: np.asarray(right) > 0, "holds bool|local derivative|0 everywhere"),
    "raises": (lambda right: Raises(), "returned something that is no array|is a Raises"),
    "lies": (lambda right: Lies(1.0), "is wrong|has shape|no array|is a Lies"),
    "no length": (lambda right: NoLength([1.0]), "has shape|no array|holds objects"),
    "all nan": (lambda right: np.full(np.shape(right), np.nan), "is wrong|not finite"),
    "all inf": (lambda right: np.full(np.shape(right), np.inf), "is wrong|not finite"),
    "zeros": (lambda right: 0 * right, "it is 0 everywhere|it is zero"),
    "minus": (lambda right: -right, "sign is wrong|climbs|is wrong"),
    "one axis more": (lambda right: right[None], "has shape"),
    "empty": (lambda right: [], "has shape"),
    "unsigned": (lambda right: np.zeros(np.shape(right), np.uint8), "it is 0 everywhere|it is zero"),
    "broadcast": (lambda right: np.ones((1,) * (np.ndim(right) + 1)), "has shape"),
}


@each_task
@pytest.mark.parametrize("name", HOSTILE)
def test_strange_results_are_named(check, place, name):
    value, words = HOSTILE[name]
    for number in range(len(checks.TASKS[check][place].results)):
        with pytest.raises(CheckFailed, match=words):
            run_with(check, place, with_result(value, number))


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no words")


def unspeakable():
    raise Unspeakable


def instead(value):
    return lambda right: lambda *arguments: value


WHOLE = {
    "None": (instead(None), "is not written yet: it returns None"),
    "dots": (instead(...), "is not written yet: it returns Ellipsis"),
    "too many": (lambda right: lambda *a: (1.0,) * 9, "returned 9 values|returned a tuple of 9"),
    "a generator": (lambda right: lambda *a: (x for x in (1, 2, 3)), "one generator|is a generator"),
    "NoLength": (instead(NoLength([1.0, 2.0])), "no array|not all of the same length|has shape|expected"),
    "an exception": (lambda right: lambda *a: 1 / 0, "raised ZeroDivisionError: division by zero"),
    "a wrong signature": (lambda right: lambda: 1, "raised TypeError"),
    "no function": (lambda right: None, "raised TypeError"),
    "an exception that can't be shown": (lambda right: lambda *a: unspeakable(), "raised .*Unspeakable"),
}


@each_task
@pytest.mark.parametrize("name", WHOLE)
def test_strange_returns_are_named(check, place, name):
    change, words = WHOLE[name]
    with pytest.raises(CheckFailed, match=words):
        run_with(check, place, change)


def on_second_call(otherwise):
    def change(right):
        calls = []

        def function(*arguments):
            calls.append(0)
            return otherwise(right(*arguments)) if len(calls) == 2 else right(*arguments)

        return function

    return change


def broken(results):
    raise RuntimeError("only once")


SECOND = {
    "raises": broken,
    "nothing": lambda results: None,
    "more": lambda results: (*results, 1.0) if isinstance(results, tuple) else (results, 1.0),
    "other shapes": lambda results: tuple(r[None] for r in results) if isinstance(results, tuple) else results[None],
    "other numbers": lambda results: tuple(r + 1e6 for r in results) if isinstance(results, tuple) else results + 1e6,
    "text": lambda results: tuple("abc" for r in results) if isinstance(results, tuple) else "abc",
}


@each_task
@pytest.mark.parametrize("name", SECOND)
def test_a_second_call_that_differs_is_named(check, place, name):
    with pytest.raises(CheckFailed, match="when called again"):
        run_with(check, place, on_second_call(SECOND[name]))


def raising(error):
    def function(*arguments):
        raise error

    return lambda right: function


@each_task
def test_stubs_and_the_stop_button(check, place):
    with pytest.raises(CheckFailed, match="is not written yet"):
        run_with(check, place, raising(NotImplementedError("write me")))
    with pytest.raises(KeyboardInterrupt):
        run_with(check, place, raising(KeyboardInterrupt()))


# what is right in an unusual form passes


@each_task
def test_right_results_of_other_kinds_pass(check, place, capsys):
    run_with(
        check, place, with_result(disguised if checks.TASKS[check][place].results != ("loss", "dlogits") else float)
    )
    run_with(check, place, with_result(lambda right: np.asarray(right).tolist()))
    run_with(check, place, with_result(lambda right: np.broadcast_to(right, np.shape(right))))
    assert capsys.readouterr().out.count("agree on") == 3


def test_views_of_the_inputs_pass_where_they_are_right():
    im2col, col2im = (task.right for task in checks.TASKS[checks.im2col])

    def view(x, kernel_size, stride, padding):
        return x.reshape(-1, x.shape[3]) if kernel_size == (1, 1) else im2col(x, kernel_size, stride, padding)

    checks.im2col(view, col2im)


# whom the checks must not believe


@each_task
def test_what_is_remembered_for_a_shape_is_found_out(check, place):
    def remember(right):
        known = {}

        def function(*arguments):
            key = tuple(np.shape(a) if isinstance(a, np.ndarray) else a for a in arguments)
            return known.setdefault(key, right(*arguments))

        return function

    with pytest.raises(CheckFailed, match=r"of an earlier call|is wrong"):
        run_with(check, place, remember)


PAIRS = [check for check, tasks in checks.TASKS.items() if len(tasks) == 2 and check is not checks.im2col]


@pytest.mark.parametrize("names", [{"x"}, {"x", "h0", "h"}, {"x", "W", "Wx", "Wh", "h0", "h"}])
@pytest.mark.parametrize("check", PAIRS)
def test_a_backward_that_uses_what_its_forward_saw_is_found_out(check, names):
    """As layers do that store x: right only if the last call of forward belongs to this call of backward."""
    forward, backward = checks.TASKS[check]
    takes = {  # the names of the arguments
        checks.linear: ("x W b", "dout x W"),
        checks.relu: ("x", "dout x"),
        checks.conv2d: ("x W b stride padding", "dout x W stride padding"),
        checks.max_pool2d: ("x size stride", "dout x size stride"),
        checks.rnn: ("x h0 Wx Wh b", "dh x h0 h Wx Wh"),
    }[check]
    seen = {}

    def remembering(*arguments):
        result = forward.right(*arguments)
        seen.update(zip(takes[0].split(), arguments, strict=True), h=result)
        return result

    def stale(*arguments):
        given = dict(zip(takes[1].split(), arguments, strict=True))
        return backward.right(*{key: seen[key] if key in names else value for key, value in given.items()}.values())

    with pytest.raises(CheckFailed, match=r"^backward: \w+ is wrong: it belongs to the \w.* of an earlier call"):
        check(remembering, stale)


def test_gradient_finds_out_a_backward_that_uses_what_its_forward_saw(rng):
    seen = []

    def forward(x):
        seen.append(x.copy())
        return x**2

    with pytest.raises(CheckFailed, match="gradient 1 is wrong: it belongs to the input 1 of an earlier call"):
        checks.gradient(forward, lambda dout, x: 2 * dout * seen[-1], rng.normal(size=(2, 3)))


def test_gradient_says_what_is_strange(rng):
    x = rng.normal(size=(2, 3))
    first = x[0, 0]
    for forward, words in {
        lambda x: [[1.0], [2.0, 3.0]]: "rows are not all of the same length",
        lambda x: x > 0: "y holds bool",
        lambda x: 1j * x: "complex",
        lambda x: x[:1] if x[0, 0] != first else x: r"y has shape \(2, 3\), then \(1, 3\)",
        lambda x: (x, x): "must return one array",
        lambda x: np.add(x, 1, out=x): "changes its argument input 1 in place",
    }.items():
        with pytest.raises(CheckFailed, match=words):
            checks.gradient(forward, lambda dout, x: dout, x)
    with pytest.raises(CheckFailed, match=r"gradient 1 is wrong at .* nan"):
        checks.gradient(lambda x: x * np.nan, lambda dout, x: x * np.nan, x)
    for inputs in ((), (x.astype(np.float32),), (x, 3), ("x",)):
        with pytest.raises(ValueError, match="float64"):
            checks.gradient(lambda *a: a[0], lambda dout, *a: dout, *inputs)


# what a check that passes says


def test_a_passed_check_says_what_it_tried(capsys, rng):
    for check, tasks in checks.TASKS.items():
        assert check(*[task.right for task in tasks]) is None
    x, W = rng.normal(size=(3, 4)), rng.normal(size=(4, 2))
    checks.gradient(lambda x, W: x @ W, lambda dout, x, W: (dout @ W.T, x.T @ dout), x, W)
    assert capsys.readouterr().out.splitlines() == PASSED


PASSED = [
    "checks.linear: forward and backward agree on 4 sizes (2 with a square W, 1 with a single sample)",
    "checks.relu: forward and backward agree on 5 arrays (4 with exact zeros)",
    "checks.cross_entropy: loss and dlogits agree on 7 batches (1 of a single sample, 3 with logits beyond 1,000)",
    "checks.adam: param, m and v agree on 45 steps (3 settings, 3 parameters in turn)",
    "checks.conv2d: forward and backward agree on 7 geometries"
    " (3 kernels that are not square, 3 with stride 2 or 3, 3 padded)",
    "checks.im2col: im2col and col2im agree on 7 geometries"
    " (3 kernels that are not square, 3 with stride 2 or 3, 3 padded)",
    "checks.max_pool2d: forward and backward agree on 7 geometries"
    " (2 where windows overlap, 1 where they leave gaps, 2 where values tie)",
    "checks.rnn: forward and backward agree on 8 batches of sequences"
    " (2 of a single step, 2 that drive tanh to its ends)",
    "checks.gradient: backward agrees with numerical gradients in every entry (input 1: 12, input 2: 8)",
]


def test_wrong_functions_are_not_tried_before_a_result_is_wrong():
    def never(*arguments):
        raise AssertionError("a wrong function was called")

    task = Task("forward", lambda x: x, {"y": {"never": never}})
    task.check(lambda x: x, {"x": np.ones(3)})


def test_the_failure_carries_the_inputs_and_an_unknown_mistake_its_worst_entry():
    def off(x):
        y = np.maximum(x, 0)
        y.flat[-1] += 0.5
        return y

    with pytest.raises(CheckFailed, match=r"^forward: y is wrong at \[\d, \d\]: \S+, expected \S+\. To see") as failure:
        checks.relu(off, checks.TASKS[checks.relu][1].right)
    assert set(failure.value.inputs) == {"x"} and isinstance(failure.value.inputs["x"], np.ndarray)


def test_the_checks_are_a_package_and_no_more():
    assert all(not isinstance(getattr(checks, name), types.ModuleType) for name in checks.__all__)
