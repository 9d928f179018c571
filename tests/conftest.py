"""What all tests share: no network, no progress bars, no windows, and hypothesis without deadlines."""

import os

os.environ.setdefault("NNLIB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import numpy as np
import pytest
from hypothesis import settings

from tests.interactive.browser import chromium, opened, pytest_collection_modifyitems  # noqa: F401 (for all tests)

# The same examples at every run: a failure that an instructor sees is one that we can see too.
settings.register_profile("course", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("course")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
