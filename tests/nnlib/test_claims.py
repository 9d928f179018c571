import numpy as np
import pytest

from nnlib import ClaimFailed, claim


def test_a_true_claim_prints_one_line_without_the_measured_value(capsys):
    claim("the accuracy is at least 98 %", 0.98765, at_least=0.98)
    claim("the loss is between 1 and 2", np.float32(1.5), at_least=1, at_most=2)
    claim("shapes agree", (3, 4), equals=(3, 4))
    claim("both give the same numbers", np.array([1.0, 2.0]), equals=np.array([1.0, 2.0]))
    claim("it is so", True, equals=True)
    assert capsys.readouterr().out.splitlines() == [
        "claim holds: the accuracy is at least 98 %",
        "claim holds: the loss is between 1 and 2",
        "claim holds: shapes agree",
        "claim holds: both give the same numbers",
        "claim holds: it is so",
    ]


@pytest.mark.parametrize(
    "value, bounds, expected",
    [
        (0.97, {"at_least": 0.98}, r"Measured: 0\.97; expected: at least 0\.98"),
        (3, {"at_least": 1, "at_most": 2}, "Measured: 3; expected: at most 2"),
        (float("nan"), {"at_least": 0}, "Measured: nan"),
        (float("nan"), {"at_most": 0}, "Measured: nan"),
        (float("nan"), {"equals": float("nan")}, "Measured: nan"),
        (np.array([1, 2]), {"equals": np.array([1, 3])}, r"Measured: \[1 2\]; expected: equal to"),
        (np.array([1, 2]), {"equals": np.array([1, 2, 3])}, r"Measured: \[1 2\]; expected: equal to"),
    ],
)
def test_a_false_claim_stops_the_notebook(value, bounds, expected, capsys):
    with pytest.raises(ClaimFailed, match=f"not true here: 'so it is'. {expected}"):
        claim("so it is", value, **bounds)
    assert capsys.readouterr().out == ""


def test_a_claim_without_a_bound_says_nothing():
    with pytest.raises(ValueError, match="needs a bound"):
        claim("the accuracy is good", 0.98)
