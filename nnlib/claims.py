"""A sentence of the text, bound to the number that makes it true.

Its one idea: a notebook may only say what it has just measured; `claim` prints the sentence if it is true and stops the
notebook if it is not. The line has no digit of the measured value, so it is the same on every machine.
"""

import numpy as np


class ClaimFailed(AssertionError):
    """A sentence of the notebook is not true of what was measured."""


def claim(text: str, value, *, at_least=None, at_most=None, equals=None) -> None:
    """Print `claim holds: text` if value satisfies every bound that is given; raise ClaimFailed otherwise.

    value: a number, or, with equals, anything that can be compared (arrays too). NaN satisfies nothing.
    Raises ValueError if no bound is given: a claim that cannot fail says nothing.
    """
    if at_least is None and at_most is None and equals is None:
        raise ValueError(f"the claim '{text}' needs a bound: at_least, at_most or equals")
    bounds = [
        ("at least", at_least, at_least is None or value >= at_least),
        ("at most", at_most, at_most is None or value <= at_most),
        ("equal to", equals, equals is None or np.array_equal(value, equals)),
    ]
    for word, bound, holds in bounds:
        if not holds:
            raise ClaimFailed(f"not true here: '{text}'. Measured: {value}; expected: {word} {bound}")
    print(f"claim holds: {text}")
