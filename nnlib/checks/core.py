"""What every check does: call a student's function, compare its results with the right ones, say which mistake fits.

Its one idea: a mistake is a function. Once a result is wrong, and only then, the wrong functions of all known mistakes
are tried on the very same inputs: the first that gives what the student got is the explanation.

To add a check, write the right function and its mistakes as a `Task`. Draw inputs on which every mistake shows, call
`task.check` on each of them, and print what was tried. List the check with its tasks in `TASKS` in `__init__.py`: the
tests then plant each mistake in a student's function and demand its words.
"""

import contextlib
import itertools
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..gradcheck import CheckFailed, numerical_gradient

SEE = "To see the arrays of this check: import sys; sys.last_value.inputs"
OVER_N = "it is divided by the batch size: that belongs into the loss, which has done it already"
NOT_NUMBERS = {"O": "objects", "U": "text", "S": "bytes", "c": "complex numbers"}  # by the dtype's kind
Table = dict[str, Callable | list[Callable]]  # words: the wrong function that they stand for, or several forms of it


def each(table: Table, change: Callable) -> Table:
    """Return a table with the same words and change(wrong function) for every function."""
    return {words: [change(wrong) for wrong in _forms(wrongs)] for words, wrongs in table.items()}


def _forms(wrongs):
    return wrongs if isinstance(wrongs, list) else [wrongs]


@dataclass(frozen=True)
class Mistake:
    """A mistake that students make: the words that explain it, and the wrong function that they stand for.

    function takes what the student's function takes. It returns one result, all others being right; or, where result
    is "all", as much as the student's function.
    """

    words: str
    function: Callable
    result: str


@dataclass(frozen=True)
class Task:
    """A function that a student is to write.

    name: what messages call it. right: the right function. table: {result: its mistakes} for each result in the order
    in which they are returned, and perhaps "all": mistakes that change several. first: results to compare before the
    others, for an error in them explains errors in the others. may_change: arguments that may be changed in place.
    """

    name: str
    right: Callable
    table: dict[str, Table]
    first: tuple[str, ...] = ()
    may_change: tuple[str, ...] = ()

    @property
    def results(self) -> tuple[str, ...]:
        """The names of what it returns."""
        return tuple(result for result in self.table if result != "all")

    @property
    def mistakes(self) -> list[Mistake]:
        """All mistakes of the table, one for each form."""
        return [
            Mistake(words, wrong, result)
            for result, table in self.table.items()
            for words, wrongs in table.items()
            for wrong in _forms(wrongs)
        ]

    def check(self, function: Callable, inputs: dict, seen: dict | None = None, case: str = "") -> dict:
        """Raise CheckFailed unless function(*inputs) gives the right results; return these, by name.

        seen: arguments of the last call before this one, which no result may depend on. case: follows the name where a
        result is wrong. CheckFailed carries the inputs.
        """
        got = call_twice(self.name, function, inputs, self.results, self.may_change)
        expected = self.run(self.right, inputs)
        for result in dict.fromkeys(self.first + self.results):
            numbers = got[result].dtype != bool and np.all(np.isfinite(got[result]))
            if not numbers or not same(got[result], expected[result]):
                explanation = self.explain(result, got[result], expected[result], inputs, seen or {})
                raise CheckFailed(f"{self.name}{case}: {result} {explanation}. {SEE}", inputs)
        return expected

    def run(self, function: Callable, inputs: dict) -> dict:
        """Return the results of one of our own functions, by name."""
        with np.errstate(all="ignore"):
            results = function(*_copies(inputs).values())
        results = results if len(self.results) > 1 else [results]
        return {name: np.asarray(result) for name, result in zip(self.results, results, strict=True)}

    def with_mistake(self, mistake: Mistake) -> Callable:
        """Return the function of a student who makes this mistake and no other."""
        if mistake.result == "all" or len(self.results) == 1:
            return mistake.function
        place = self.results.index(mistake.result)

        def function(*arguments):
            right = self.right(*arguments)
            return (*right[:place], mistake.function(*arguments), *right[place + 1 :])

        return function

    def explain(self, result: str, got: np.ndarray, expected: np.ndarray, inputs: dict, seen: dict) -> str:
        """Return how a wrong result is to be put: with the words of the first mistake that fits, or its worst entry."""
        words = _first_fit(got, expected, self.wrong_results(result, expected, inputs, seen))
        if got.shape != expected.shape:
            return f"has shape {got.shape}, expected {expected.shape}" + (words and f": {words}")
        if words:
            return f"is {'wrong' if np.all(np.isfinite(got)) else 'not finite'}: {words}"
        if got.dtype == bool:
            return "holds bool, expected real numbers"
        with np.errstate(all="ignore"):
            gap = np.nan_to_num(np.abs(got - expected) - 1e-5 * np.abs(expected), nan=np.inf)
        worst = np.unravel_index(int(gap.argmax()), gap.shape)
        place = f" at [{', '.join(str(int(i)) for i in worst)}]" if worst else ""
        return f"is wrong{place}: {got[worst]:.6g}, expected {expected[worst]:.6g}"

    def wrong_results(self, result, expected, inputs, seen) -> Iterable[tuple[str, np.ndarray]]:
        """Yield (words, what they lead to): for the mistakes, for arguments of an earlier call, for blunders."""
        for mistake in self.mistakes:
            with contextlib.suppress(Exception):  # a mistake that stops with an error here cannot be the student's
                yield mistake.words, self.run(self.with_mistake(mistake), inputs)[result]
        kept = [key for key in inputs if key in seen]
        for keys in itertools.chain(*(itertools.combinations(kept, count + 1) for count in range(len(kept)))):
            with contextlib.suppress(Exception):  # arguments of other shapes may not go together
                words = f"it belongs to the {' and '.join(keys)} of an earlier call: use what this call is given"
                yield words, self.run(self.right, inputs | {key: seen[key] for key in keys})[result]
        yield "it is 0 everywhere: nothing is written into it", np.zeros_like(expected)
        yield "its sign is wrong", -expected
        yield "it seems to be transposed", expected.T


def _first_fit(got, expected, wrong_results) -> str:
    """Return the words of the first wrong result that equals `got`; else of one that fails in the same way; else ""."""
    wrong_results = [(words, wrong) for words, wrong in wrong_results if not same(wrong, expected)]
    for words, wrong in wrong_results:
        if same(got, wrong):
            return words
    for words, wrong in wrong_results:
        if got.shape == wrong.shape != expected.shape:
            return words
        if got.shape == wrong.shape and not np.all(np.isfinite(got)) and not np.all(np.isfinite(wrong)):
            return words
    return ""


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether they are equal but for rounding, be it that of float32."""
    if a.shape != b.shape or np.array_equal(a, b):
        return a.shape == b.shape
    scale = np.abs(b).max(initial=1.0, where=np.isfinite(b))
    return np.allclose(a, b, rtol=1e-5, atol=1e-7 * scale, equal_nan=True)


def call(name: str, function: Callable, inputs: dict, results: Sequence[str], may_change: Sequence[str] = ()) -> dict:
    """Call a student's function on copies of the inputs; return its results as arrays, by name.

    Raises CheckFailed, in plain words, for whatever else it may do.
    """
    arguments, copies = ", ".join(inputs), _copies(inputs)
    try:
        with np.errstate(all="ignore"):
            returned = function(*copies.values())
    except NotImplementedError as error:
        raise CheckFailed(f"{name}({arguments}) is not written yet") from error
    except Exception as error:
        said = "".join(traceback.format_exception_only(error)).strip()
        raise CheckFailed(f"{name}({arguments}) raised {said}. {SEE}", inputs) from error
    if returned is None or returned is Ellipsis:
        raise CheckFailed(f"{name}({arguments}) is not written yet: it returns {returned} (is a `return` missing?)")
    for key, value in inputs.items():
        if key not in may_change and not np.array_equal(copies[key], value):
            raise CheckFailed(f"{name} changes its argument {key} in place, which others still need: copy it", inputs)
    try:
        values = _split(name, returned, results)
        return {result: _array(f"{name}: {result}", value) for result, value in zip(results, values, strict=True)}
    except CheckFailed as failure:
        failure.inputs = inputs
        raise
    except Exception as error:  # even looking at it went wrong
        raise CheckFailed(f"{name} returned something that is no array: {type(returned).__name__}", inputs) from error


def call_twice(name: str, function: Callable, inputs: dict, results: Sequence[str], may_change=()) -> dict:
    """Return what `call` does if a second call gives the same; raise CheckFailed if it remembers the first."""
    first = call(name, function, inputs, results, may_change)
    try:
        again = call(name, function, inputs, results, may_change)
    except CheckFailed as failure:
        raise CheckFailed(f"{name} does not work when called again: {failure}", inputs) from failure
    if not all(same(again[result], first[result]) for result in results):
        raise CheckFailed(f"{name} gives another result when called again: it keeps something of the last call", inputs)
    return first


def _copies(inputs: dict) -> dict:
    return {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in inputs.items()}


def _split(name: str, returned, results: Sequence[str]) -> Sequence:
    """Return what a student's function returned as a sequence of len(results) things."""
    if len(results) == 1:
        if isinstance(returned, tuple):
            raise CheckFailed(f"{name} must return one array, it returned a tuple of {len(returned)}")
        return [returned]
    if not isinstance(returned, tuple | list) or len(returned) != len(results):
        found = f"{len(returned)} values" if isinstance(returned, tuple | list) else f"one {type(returned).__name__}"
        raise CheckFailed(f"{name} must return ({', '.join(results)}), it returned {found}")
    return returned


def _array(name: str, value) -> np.ndarray:
    """Return a copy of a student's result as float64, or as bool. Raises CheckFailed for what is no real numbers."""
    if value is None or value is Ellipsis:
        raise CheckFailed(f"{name} is not written yet: it is {value}")
    try:
        array = np.array(value)
    except ValueError as error:
        raise CheckFailed(f"{name} is no array: its rows are not all of the same length") from error
    if isinstance(value, np.ma.MaskedArray) or (array.dtype == object and not isinstance(value, np.ndarray | list)):
        raise CheckFailed(f"{name} is a {type(value).__name__}, expected an array of real numbers")
    if array.dtype.kind not in "fiub":
        raise CheckFailed(f"{name} holds {NOT_NUMBERS.get(array.dtype.kind, array.dtype)}, expected real numbers")
    with np.errstate(all="ignore"):
        return array if array.dtype == bool else array.astype(np.float64)


def gradient(forward: Callable, backward: Callable, *inputs: np.ndarray) -> None:
    """Check any pair forward(*inputs) -> y, backward(dout, *inputs) -> their gradients, against numerical gradients.

    inputs: small float64 arrays (others: ValueError). With one input, backward returns one array; with several, a tuple
    in their order. Prints one line if all is well, raises CheckFailed if not.
    """
    arrays = {f"input {i + 1}": np.array(x) for i, x in enumerate(inputs)}
    if not arrays or any(x.dtype != np.float64 for x in arrays.values()):
        raise ValueError("checks.gradient expects float64 arrays after the two functions: x.astype(np.float64)")
    y = call_twice("forward", forward, arrays, ("y",))["y"]
    if y.dtype == bool:
        raise CheckFailed("forward: y holds bool, expected real numbers", arrays)

    def total(dout, arrays):
        y = call("forward", forward, arrays, ("y",))["y"]
        if y.shape != dout.shape:
            raise CheckFailed(f"forward: y has shape {dout.shape}, then {y.shape}, on inputs of one shape", arrays)
        return float((y * dout).sum())

    def numerical_gradients(dout, *values):
        named = dict(zip(arrays, values, strict=True))
        gradients = [numerical_gradient(lambda _: total(dout, named), x) for x in values]
        return gradients if len(gradients) > 1 else gradients[0]

    back_to_front = {name: np.flip(x) for name, x in arrays.items()}
    with contextlib.suppress(CheckFailed):  # it may not like them
        call("forward", forward, back_to_front, ("y",))  # backward must not need what the last forward call has seen
    task = Task("backward", numerical_gradients, {f"gradient {i + 1}": {} for i in range(len(arrays))})
    dout = np.random.default_rng(0).normal(size=y.shape)
    task.check(backward, {"dout": dout} | arrays, back_to_front)
    sizes = ", ".join(f"{name}: {x.size}" for name, x in arrays.items())
    print(f"checks.gradient: backward agrees with numerical gradients in every entry ({sizes})")
