"""Checks for the functions that a student writes: each prints what it tried, or raises CheckFailed with what is wrong.

Their one idea: a check knows the classic mistakes. It calls the function on inputs chosen so that each of them shows
(square matrices, exact zeros, huge logits, one sample), and finds out which mistake gives the wrong result that it got.
"""

from . import conv, dense, recurrent
from .conv import conv2d, im2col, max_pool2d
from .core import SEE, CheckFailed, gradient
from .dense import adam, cross_entropy, linear, relu
from .recurrent import rnn

TASKS = {  # check: what it asks a student to write
    linear: (dense.LINEAR_FORWARD, dense.LINEAR_BACKWARD),
    relu: (dense.RELU_FORWARD, dense.RELU_BACKWARD),
    cross_entropy: (dense.CROSS_ENTROPY,),
    adam: (dense.ADAM,),
    conv2d: (conv.CONV2D_FORWARD, conv.CONV2D_BACKWARD),
    im2col: (conv.IM2COL, conv.COL2IM),
    max_pool2d: (conv.MAX_POOL2D_FORWARD, conv.MAX_POOL2D_BACKWARD),
    rnn: (recurrent.RNN_FORWARD, recurrent.RNN_BACKWARD),
}

__all__ = [
    "SEE",
    "CheckFailed",
    "adam",
    "conv2d",
    "cross_entropy",
    "gradient",
    "im2col",
    "linear",
    "max_pool2d",
    "relu",
    "rnn",
]
