"""Interactive figures in Chromium: alive from a file, by mouse, finger and keyboard, in light and dark, on a phone."""

import numpy as np
import pytest

from nnlib import interactive
from tests.interactive.browser import overflow

pytestmark = pytest.mark.browser
ALT = "Three small pictures: go through them."


@pytest.fixture
def player():
    return interactive.player(np.arange(48, dtype=np.uint8).reshape(3, 4, 4), ["one", "two", "three"], alt=ALT)


def test_a_player_is_stepped_through(opened, player):
    page = opened(player, width=360, dark=True)
    shown = page.locator("output")
    assert shown.text_content() == "three" and overflow(page) == 0
    page.get_by_role("button", name="previous").click()
    assert shown.text_content() == "two"
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    assert shown.text_content() == "one"
