"""Figures that one can touch: each function returns a `Figure`, which a notebook shows as the last line of a cell.

Their one idea: what a figure needs is in it. It lives in JupyterLab without a kernel, on the course's site, in a page
sent to a friend, and on paper as a picture.
"""

from .figure import Figure, data_of, encode, page_of, png
from .player import player

__all__ = ["Figure", "data_of", "encode", "page_of", "player", "png"]
