"""Small judgements on notebooks: which data they use, whether digits can agree, where outputs differ."""

import textwrap
from pathlib import Path

import nbformat
import pytest

from tests.tools.small_course import STEADY, write
from tools.shared import kernels, notebooks


def stored_notebook(fingerprint):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('data = load_dataset("mnist")')])
    notebook.metadata["nnlib"] = {"datasets": {"mnist": {"fingerprint": fingerprint}}}
    return notebook


def test_a_difference_is_worded():
    def first_difference(stored, fresh):
        return next(kernels.differing_lines(stored, fresh), None)

    def out(*texts):
        return [nbformat.v4.new_output("stream", name="stdout", text=text) for text in texts]

    result = nbformat.v4.new_output("execute_result", {"text/plain": "1", "image/png": "abc"})
    other = nbformat.v4.new_output("execute_result", {"text/plain": "2", "image/png": "xyz"})
    assert first_difference(out("a\nb"), out("a\nb")) is None
    assert first_difference(out("a\nb"), out("a\nc")).endswith("line 2\n  stored: b\n  now:    c")
    assert first_difference(out("a"), []).endswith("stored: a\n  now:    nothing")
    assert first_difference([], out("a")).endswith("stored: nothing\n  now:    a")
    assert "text/plain" in first_difference([result], [other])
    other.data["text/plain"] = "1"
    assert first_difference([result], [other]) is None  # a picture is not compared


def test_the_data_sets_of_a_notebook_are_found_in_its_code():
    cells = [nbformat.v4.new_code_cell(textwrap.dedent(text)) for text in ('a = load_dataset("mnist")', "x = 1")]
    cells += [nbformat.v4.new_code_cell("b = datasets.load_dataset(\n    'cifar10', data_dir=None)")]
    cells += [nbformat.v4.new_markdown_cell('`load_dataset("fashion_mnist")` would be another')]
    assert notebooks.datasets_used(nbformat.v4.new_notebook(cells=cells)) == ["cifar10", "mnist"]


def test_the_table_is_aligned():
    rows = [
        {"notebook": "01_mlp", "seconds": 1.25, "cells": 7},
        {"notebook": "02_cnn_loops", "seconds": 10.0, "cells": 12},
    ]
    assert notebooks.table(rows).splitlines() == [
        "notebook      seconds  cells",
        "------------  -------  -----",
        "01_mlp            1.2      7",
        "02_cnn_loops     10.0     12",
    ]


def test_unknown_and_missing_notebooks_are_named(tmp_path):
    with pytest.raises(SystemExit, match="no notebook"):
        notebooks.select(tmp_path)
    write(tmp_path, "01_steady", STEADY)
    assert notebooks.select(tmp_path, ["01_steady.py"]) == notebooks.select(
        tmp_path, [str(Path("notebooks/01_steady"))]
    )
    with pytest.raises(SystemExit, match=r"No notebook 02_other .* only 01_steady"):
        notebooks.select(tmp_path, ["02_other"])


def test_digits_are_compared_only_where_they_can_agree():
    def stored(fingerprint):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('data = load_dataset("mnist")')])
        notebook.metadata["nnlib"] = {"datasets": {"mnist": {"fingerprint": fingerprint}}}
        return notebook

    here = {"mnist": {"title": "MNIST", "source": "sample", "fingerprint": "aa"}}
    assert notebooks.same_data(stored("aa"), here) and not notebooks.same_data(stored("bb"), here)
    assert "MNIST, sample" in notebooks.other_data(stored("bb"), here)
    unused = stored("aa")
    unused.cells = []  # the source no longer loads what the outputs were made from
    assert not notebooks.same_data(unused, here)


def test_another_seed_or_device_is_not_that_of_the_stored_outputs(monkeypatch):
    for name in ("NNLIB_SEED", "NNLIB_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    assert notebooks.other_settings() is None
    monkeypatch.setenv("NNLIB_DEVICE", "cuda")
    assert "NNLIB_DEVICE is cuda here" in notebooks.other_settings()
