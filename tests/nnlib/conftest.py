"""Fixtures that several files use: those of the data sets."""

from tests.nnlib.small_data import house, load, mirror, real  # noqa: F401
