"""nnlib: what the course has written so far, one topic a file, to be read from top to bottom.

Begin with `layers`, then `losses`, `model`, `optim` and `training`: together they are a neural network library.
`nnlib.checks` tests a function that you wrote; `nnlib.plots` draws (import it by name: it brings matplotlib along).
"""

from . import checks, reference
from .augment import random_flip, random_shift
from .backend import get_array_module, to_device, to_numpy
from .claims import ClaimFailed, claim
from .conv import AvgPool2d, Conv2d, MaxPool2d, col2im, im2col
from .datasets import Dataset, load_dataset
from .gradcheck import CheckFailed, check_layer, numerical_gradient
from .initializers import glorot_normal, he_normal, normal, orthogonal
from .layers import Dropout, Flatten, Layer, Linear, ReLU, Tanh
from .losses import cross_entropy
from .metrics import accuracy, confusion_matrix, precision_recall
from .model import Sequential
from .optim import SGD, Adam, clip_grad_norm, warmup_cosine
from .parallel import DataParallel, cores
from .recurrent import GRU, RNN
from .training import History, evaluate, fit

__all__ = [
    "GRU",
    "RNN",
    "SGD",
    "Adam",
    "AvgPool2d",
    "CheckFailed",
    "ClaimFailed",
    "Conv2d",
    "DataParallel",
    "Dataset",
    "Dropout",
    "Flatten",
    "History",
    "Layer",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Sequential",
    "Tanh",
    "accuracy",
    "check_layer",
    "checks",
    "claim",
    "clip_grad_norm",
    "col2im",
    "confusion_matrix",
    "cores",
    "cross_entropy",
    "evaluate",
    "fit",
    "get_array_module",
    "glorot_normal",
    "he_normal",
    "im2col",
    "load_dataset",
    "normal",
    "numerical_gradient",
    "orthogonal",
    "precision_recall",
    "random_flip",
    "random_shift",
    "reference",
    "to_device",
    "to_numpy",
    "warmup_cosine",
]
