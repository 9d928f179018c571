"""The two halves of a pair: what differs is shown, with the command that mends it; JupyterLab keeps them in step."""

import asyncio
import re
import shutil

from tests.tools.small_course import STEADY, edit, write
from tools.shared import notebooks, pairs


def test_a_pair_that_differs_is_shown_with_the_command_that_mends_it(tmp_path):
    source = write(tmp_path, "01_steady", STEADY)
    assert "make build NOTEBOOK=01_steady" in pairs.difference(source)  # no .ipynb yet
    stored = source.with_suffix(".ipynb")
    notebooks.write(notebooks.read_source(source), stored)
    assert pairs.difference(source) is None and pairs.orphans(tmp_path) == []

    def changes():
        yield "-value = 0.7", lambda _, cells: cells[0].update(source=cells[0].source.replace("0.5", "0.7"))
        yield "+# %% [code] exercise", lambda _, cells: cells[2].metadata.pop("tags")
        yield "-# %% [code] solution\n", lambda _, cells: cells[3].metadata.pop("jupyter")
        yield "+double(value)", lambda notebook, cells: notebook.cells.remove(cells[4])
        yield "-# %% [raw]", lambda notebook, _: notebook.cells[0].update(cell_type="raw")

    for line, change in changes():
        notebooks.write(notebooks.read_source(source), stored)
        edit(stored, change)
        said = pairs.difference(source)
        assert line in said and "make build NOTEBOOK=01_steady" in said
    source.unlink()
    assert pairs.orphans(tmp_path) == [stored]


def test_saving_in_jupyterlab_leaves_the_source_as_it_was(tmp_path):
    from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
    from jupytext.async_contentsmanager import build_async_jupytext_contents_manager_class

    shutil.copy(notebooks.ROOT / "notebooks" / "jupytext.toml", tmp_path)
    source = write(tmp_path, "01_steady", STEADY)
    notebooks.write(notebooks.read_source(source), source.with_suffix(".ipynb"))
    manager = build_async_jupytext_contents_manager_class(AsyncLargeFileManager)(root_dir=str(tmp_path))

    async def save_again(change):
        model = await manager.get("01_steady.ipynb")
        change(model["content"]["cells"])
        await manager.save(model, "01_steady.ipynb")

    text = source.read_text("utf-8")
    asyncio.run(save_again(lambda cells: None))
    assert source.read_text("utf-8") == text
    asyncio.run(save_again(lambda cells: cells[1].update(source='print("changed")')))
    assert source.read_text("utf-8") == text.replace(
        re.search(r"value = 0\.5\n.*?\n\n", text, re.DOTALL).group(), 'print("changed")\n\n'
    )
    assert pairs.difference(source) is None
