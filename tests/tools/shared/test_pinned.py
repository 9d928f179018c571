"""Where the pinned arithmetic cannot run, it is said why."""

from tools.shared import pinned


def test_a_processor_that_cannot_be_pinned_is_told_why():
    fine = {"features": ["X86_V3"], "numpy": "2", "core": "Haswell", "threads": 1}
    assert pinned.judge(fine, "2") is None
    assert "does not start" in pinned.judge(None, "2") and "AVX2" in pinned.judge(fine | {"features": []}, "2")
    assert "NumPy is 1 here" in pinned.judge(
        fine | {"numpy": "1", "features": ["AVX2"]}, "2"
    )  # it has other names for them
    assert "NumPy is 2 here" in pinned.judge(fine, "3")
    assert "Haswell" in pinned.judge(fine | {"core": "Zen"}, "2")
    assert "one OpenBLAS thread" in pinned.judge(fine | {"threads": 2}, "2")
    assert "OpenBLAS" in pinned.judge({"features": ["X86_V3"], "numpy": "2"}, "2")
