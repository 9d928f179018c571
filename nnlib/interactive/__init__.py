"""Figures that one can touch: each function returns a `Figure`, which a notebook shows as the last line of a cell.

Their one idea: what a figure needs is in it. It lives in JupyterLab without a kernel, on the course's site, in a page
sent to a friend, and on paper as a picture.
"""

from .figure import Figure, encode, png
from .folding_plane import folding_plane
from .gap import gap
from .moving_window import moving_window
from .network import network_json
from .pad import belief_pad, centre_digit, digit_pad, draw_ink, save_page
from .patches import patch_matrix
from .photos import photo_lab
from .player import player
from .questions import occluder, step_size
from .softmax_explorer import softmax_explorer
from .through_time import backward_steps
from .valley import valley
from .workers import ring, scaling

__all__ = [
    "Figure",
    "backward_steps",
    "belief_pad",
    "centre_digit",
    "digit_pad",
    "draw_ink",
    "encode",
    "folding_plane",
    "gap",
    "moving_window",
    "network_json",
    "occluder",
    "patch_matrix",
    "photo_lab",
    "player",
    "png",
    "ring",
    "save_page",
    "scaling",
    "softmax_explorer",
    "step_size",
    "valley",
]
