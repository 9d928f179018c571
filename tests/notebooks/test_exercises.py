"""Every check of every exercise, against answers that are wrong: each must be refused, and the solution passed.

A wrong answer is planted as a whole source, or as a change of the solution: (what stands there, what takes its place).
The plants are what lazy, hurried and dishonest answers look like: zeros, the inputs handed back, the numbers of a
visible example, the classic bug of the exercise, an input changed in place, invented numbers of an experiment.

One pass per notebook, on the sample of the data: slow, so a part of the stage `pytest -m editions`. At each exercise
the process forks once per answer; the copy tries it and ends, and the pass goes on with the solution.
"""

import ast
import contextlib
import json
import os
import sys
from pathlib import Path

import pytest

from tests.tools.small_course import beside
from tools.instructor import student
from tools.shared import notebooks
from tools.shared.notebooks import ROOT, tags

SOURCES = notebooks.select(ROOT / "notebooks")
FEWEST = 3  # planted answers for each exercise

# notebook -> the first name that the exercise's stub defines -> what is wrong -> how
PLANTED = {
    "01_mlp": {
        "leaky_forward": {
            "zeros": """
                def leaky_forward(x):
                    return np.zeros_like(x)
                def leaky_backward(dout, x):
                    return np.zeros_like(x)
            """,
            "the values of one example, and a gradient of zero to go with them": """
                def leaky_forward(x):
                    return np.array([-0.1, 2.0]) if x.shape == (2,) else np.ones(x.shape)
                def leaky_backward(dout, x):
                    return np.zeros_like(x)
            """,
            "inputs handed back": """
                def leaky_forward(x):
                    return x
                def leaky_backward(dout, x):
                    return dout
            """,
            "the forward changes x in place": (
                "return np.where(x > 0, x, 0.1 * x)",
                "x[x <= 0] *= 0.1\n    return x",
            ),
            "the backward changes dout in place": (
                "return dout * np.where(x > 0, 1.0, 0.1)",
                "dout *= np.where(x > 0, 1.0, 0.1)\n    return dout",
            ),
            "the mask looks at dout": ("dout * np.where(x > 0", "dout * np.where(dout > 0"),
            "a plain ReLU on the way back": ("1.0, 0.1)", "1.0, 0.0)"),
            "the local slope alone": ("dout * np.where", "np.where"),
            "a leak of 0.01 in both": ("0.1", "0.01"),
        },
        "square_backward": {
            "zeros": ("2 * x * (dout @ W.T), (x**2).T @ dout", "np.zeros_like(x), np.zeros_like(W)"),
            "inputs handed back": ("2 * x * (dout @ W.T), (x**2).T @ dout", "x, W"),
            "the slope of the square is forgotten": ("2 * x * (dout @ W.T)", "dout @ W.T"),
            "the factor 2 is forgotten": ("2 * x", "x"),
            "x is not squared for dW": ("(x**2).T", "x.T"),
            "W is not transposed where its shape allows it": (
                "dout @ W.T",
                "dout @ (W if W.shape[0] == W.shape[1] else W.T)",
            ),
            "dout changed in place": ("return ", "dout *= 1.0 + 1e-9\n    return "),
        },
        "adam_step": {
            "zeros": ("return param - lr * m_hat / (np.sqrt(v_hat) + eps), m, v", "return 0 * param, 0 * m, 0 * v"),
            "inputs handed back": ("    m = ", "    return param, m, v\n    m = "),
            "no correction of the bias": ("m / (1 - beta1**t), v / (1 - beta2**t)", "m, v"),
            "t counted one too far": ("beta1**t", "beta1**(t + 1)"),
            "the corrected means are returned": ("+ eps), m, v", "+ eps), m_hat, v_hat"),
            "grad changed in place": ("    m = ", "    grad *= 1 - beta1\n    m = "),
        },
        "my_precision_recall": {
            "zeros": ("correct / matrix.sum(axis=0), correct / matrix.sum(axis=1)", "0.0 * correct, 0.0 * correct"),
            "the numbers of one example": (
                "    correct = ",
                "    return np.array([8 / 9, 6 / 9, 9 / 12]), np.array([8 / 10, 6 / 10, 9 / 10])\n    correct = ",
            ),
            "the matrix handed back": ("correct / matrix.sum(axis=0), correct / matrix.sum(axis=1)", "matrix, matrix"),
            "rows and columns exchanged": (
                "axis=0), correct / matrix.sum(axis=1)",
                "axis=1), correct / matrix.sum(axis=0)",
            ),
            "both over the whole table": ("matrix.sum(axis=0)", "matrix.sum()"),
            "the matrix changed in place": ("    return ", "    matrix[0, 0] += 1\n    return "),
            "one class too few": ("return ", "correct, matrix = correct[:-1], matrix[:-1, :-1]\n    return "),
            "accuracy, which has the right shape by broadcasting": (
                "correct / matrix.sum(axis=0), correct / matrix.sum(axis=1)",
                "correct.sum() / matrix.sum(), correct.sum() / matrix.sum()",
            ),
        },
        "shift_experiment": {
            "invented numbers": ("    few = ", "    return {0: 0.90, 2: 0.93, 8: 0.91}\n    few = "),
            "zeros": ("    few = ", "    return {0: 0.0, 2: 0.0, 8: 0.0}\n    few = "),
            "invented numbers that fall with the size": (
                "    few = ",
                "    return {0: 0.9 - 9 / count, 2: 0.93 - 9 / count, 8: 0.91 - 9 / count}\n    few = ",
            ),
            "the seed is not used": ("(seed)", "(0)"),
            "the number of pictures is not used": ("[:count]", "[:3000]"),
            "the number of epochs is not used": ("epochs, pixels", "15, pixels"),
            "the highest accuracy, at whatever loss": (
                "accuracy[history.best_epoch]",
                "accuracy and max(history.validation_accuracy)",
            ),
            "no shift at all": ("pixels=pixels", "pixels=0"),
            "two pixels whatever is asked": ("pixels=pixels, ", ""),
            "accuracy on what was learnt": ("history.validation_accuracy", "history.train_accuracy"),
        },
        "not_zero": {
            "nothing": ('{"db2"}', "set()"),
            "all": ('{"db2"}', '{"dW1", "db1", "dW2", "db2"}'),
            "the layer on top": ('{"db2"}', '{"dW2", "db2"}'),
            "both biases": ('{"db2"}', '{"db1", "db2"}'),
            "a word instead of a set": ('{"db2"}', '"db2"'),
        },
    },
    "02_cnn_loops": {
        "output_size": {
            "zeros": """
                def output_size(size, kernel, stride, padding):
                    return 0
                def same_padding(kernel):
                    return 0
            """,
            "a table of the sizes on the page": """
                def output_size(size, kernel, stride, padding):
                    table = {(28, 3, 1, 0): 26, (28, 3, 1, 1): 28, (28, 5, 1, 1): 26}
                    table |= {(28, 2, 2, 0): 14, (28, 3, 2, 1): 14, (7, 2, 2, 0): 3}
                    if kernel > size + 2 * padding:
                        raise ValueError
                    return table.get((size, kernel, stride, padding), 28)
                def same_padding(kernel):
                    if kernel % 2 == 0:
                        raise ValueError
                    return (kernel - 1) // 2
            """,
            "the size handed back": ("return (size + 2 * padding - kernel) // stride + 1", "return size"),
            "one too few": ("// stride + 1", "// stride"),
            "rounded up": ("(size + 2 * padding - kernel) // stride", "-((kernel - size - 2 * padding) // stride)"),
            "padding on one side": ("size + 2 * padding - kernel) //", "size + padding - kernel) //"),
            "a kernel as large as the picture refused": ("if kernel > size", "if kernel >= size"),
            "no kernel refused": ("if kernel > size + 2 * padding", "if False"),
            "padding refused without the padding counted": ("if kernel > size + 2 * padding", "if kernel > size"),
            "no padding refused": ("if kernel % 2 == 0", "if False"),
            "half the kernel": ("return (kernel - 1) // 2", "return (kernel + 1) // 2"),
        },
        "avg_pool2d": {
            "zeros": (".mean()", ".mean() * 0"),
            "zeros on the way back": ("dout[n, row, column, c] / size**2", "0"),
            "inputs handed back": """
                def avg_pool2d(x, size, stride):
                    return x
                def avg_pool2d_backward(dout, x, size, stride):
                    return x
            """,
            "the sum": (".mean()", ".sum()"),
            "the maximum": (".mean()", ".max()"),
            "= for += on the way back": ("+= dout", "= dout"),
            "everybody gets all": (" / size**2", ""),
            "divided once": (" / size**2", " / size"),
            "stride ignored": ("row * stride, column * stride", "row * size, column * size"),
            "height used for width": ("(x.shape[2] - size)", "(x.shape[1] - size)"),
            "x zeroed, dx agrees": ("    return y", "    x[...] = 0\n    return y"),
            "dout changed in place": ("    dx = np.zeros_like(x)", "    dout /= size**2\n    dx = np.zeros_like(x)"),
            "not a number": ("    return y", "    return y * np.nan"),
        },
        "diagonal_filter": {
            "zeros": ("/ 3", "* 0"),
            "not scaled": ("/ 3", "* 1"),
            "scaled down": ("/ 3", "/ 6"),
            "the other way round": ("/ 3", "/ -3"),
            "the other diagonal": ("/ 3", "/ 3 @ np.eye(3)[::-1]"),
            "a vertical edge": ("[[-1, -1, 0], [-1, 0, 1], [0, 1, 1]]", "[[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]"),
            "two corners alone, seen by the other edge too": (
                "[[-1, -1, 0], [-1, 0, 1], [0, 1, 1]]) / 3",
                "[[-1, 0, 0], [0, 0, 0], [0, 1, 0]])",
            ),
            "a row of three, which would be spread out": (
                "[[-1, -1, 0], [-1, 0, 1], [0, 1, 1]]",
                "[[-1, 0, 1]]",
            ),
            "not a number": ("/ 3", "/ np.nan"),
        },
        "conv1x1": {
            "zeros": ("    rows = ", "    return np.zeros((*x.shape[:3], W.shape[3]))\n    rows = "),
            "x handed back": ("    rows = ", "    return x\n    rows = "),
            "b alone, which would be spread out": ("    rows = ", "    return b\n    rows = "),
            "no bias": (" + b", ""),
            "W transposed where its shape allows it": (
                "W[0, 0]",
                "(W[0, 0].T if W.shape[2] == W.shape[3] else W[0, 0])",
            ),
            "height and width exchanged": ("*x.shape[:3], -1", "len(x), x.shape[2], x.shape[1], -1"),
            "rows left as they are": (".reshape(*x.shape[:3], -1)", ""),
            "x zeroed at the end": (
                "return (rows @ W[0, 0] + b).reshape(*x.shape[:3], -1)",
                "y = (rows @ W[0, 0] + b).reshape(*x.shape[:3], -1)\n    x[...] = W[...] = b[...] = 0\n    return y",
            ),
            "inputs zeroed at first": ("    rows = ", "    x[...] = W[...] = b[...] = 0\n    rows = "),
        },
        "receptive_fields": {
            "zeros": ("    x, W = ", "    return {1: 0, 2: 0, 3: 0}\n    x, W = "),
            "the numbers of one example": ("    x, W = ", "    return {1: 9, 2: 25, 3: 49}\n    x, W = "),
            "invented numbers": ("    x, W = ", "    return {1: 9, 2: 27, 3: 81}\n    x, W = "),
            "a formula that forgets the rim": (
                "    x, W = ",
                "    return {depth: (depth * (kernel - 1) + 1) ** 2 for depth in (1, 2, 3)}\n    x, W = ",
            ),
            "a kernel of 3 whatever is asked": ("    x, W = ", "    kernel = 3\n    x, W = "),
            "one layer whatever is asked": ("range(depth)", "range(1)"),
            "one layer too many": ("range(depth)", "range(depth + 1)"),
            "the side instead of the number": ("np.count_nonzero(d)", "int(np.count_nonzero(d) ** 0.5)"),
        },
        "same_either_way": {
            "nothing": ('{"convolution"}', "set()"),
            "all": ('{"convolution"}', '{"convolution", "max-pool 2", "linear"}'),
            "the pool too": ('{"convolution"}', '{"convolution", "max-pool 2"}'),
            "the example of the stub": ('{"convolution"}', '{"max-pool 2", "linear"}'),
            "a word instead of a set": ('{"convolution"}', '"convolution"'),
        },
    },
    "03_cnn_im2col": {
        "im2col_1d": {
            "zeros": ("    _, T, C = x.shape", "    _, T, C = x.shape\n    x = np.zeros_like(x)"),
            "x handed back": ("    _, T, C = x.shape", "    return x\n    _, T, C = x.shape"),
            "one row, which would be spread out": (".reshape(-1, kernel * C)", ".reshape(-1, kernel * C)[:1]"),
            "channels outermost": (".reshape(-1", ".swapaxes(2, 3).reshape(-1"),
            "one patch too few": ("// stride + 1", "// stride"),
            "stride ignored": ("starts = stride *", "stride = 1\n    starts = stride *"),
            "samples innermost": ("np.arange(kernel)]", "np.arange(kernel)].swapaxes(0, 1)"),
            "every patch backwards": ("np.arange(kernel)", "np.arange(kernel)[::-1]"),
            "x zeroed, rows agree": ("    starts", "    x[...] = 0\n    starts"),
        },
        "im2col_dilated": {
            "zeros": ("return patches.reshape", "return 0 * patches.reshape"),
            "x handed back": ("    (N, H, W, C), (kh", "    return x\n    (N, H, W, C), (kh"),
            "the gap ignored": ("    shape", "    gap = 1\n    shape"),
            "holes in one direction only": ("gap * h, gap * w, c", "h, gap * w, c"),
            "height and width exchanged": ("gap * h, gap * w, c", "gap * w, gap * h, c"),
            "rows in another order": ("kw * C)", "kw * C)[::-1]"),
            "channels outermost": ("patches.reshape", "np.moveaxis(patches, 5, 3).reshape"),
            "x zeroed": ("    return patches", "    x[...] = 0\n    return patches"),
        },
        "is_adjoint": {
            "always True": ("    rng", "    return True\n    rng"),
            "always False": ("    rng", "    return False\n    rng"),
            "the functions of this notebook, by name": (
                "    rng",
                "    return col2im is globals()['col2im'] and im2col is globals()['im2col']\n    rng",
            ),
            "ones instead of random numbers": ("rng.normal(size=rows.shape)", "np.ones(rows.shape)"),
            "a picture of ones and a matrix of ones": (
                "    rows = im2col(x, (3, 2), 1, 1)\n    m = rng.normal(size=rows.shape)",
                "    x = np.ones_like(x)\n    rows = im2col(x, (3, 2), 1, 1)\n    m = np.ones_like(rows)",
            ),
            "too wide a tolerance": (".sum()))", ".sum(), rtol=0.02))"),
            "its own im2col": ("    rng", "    im2col = globals()['im2col']\n    rng"),
            "the shapes alone": (
                "return bool(np.isclose((rows * m).sum(), (x * col2im(m, x.shape, (3, 2), 1, 1)).sum()))",
                "return col2im(m, x.shape, (3, 2), 1, 1).shape == x.shape",
            ),
            "a col2im of im2col should give the picture back": ("(rows * m).sum()", "(x * x).sum()"),
            "no answer": ("return bool", "bool"),
            "the difference": (
                "return bool(np.isclose((rows * m).sum(), (x * col2im(m, x.shape, (3, 2), 1, 1)).sum()))",
                "return (rows * m).sum() - (x * col2im(m, x.shape, (3, 2), 1, 1)).sum()",
            ),
        },
        "multiply_adds": {
            "zero": ("    Ho", "    return 0\n    Ho"),
            "a table of three": (
                "    Ho",
                "    table = {28: 225_792, 14: 903_168, 9: 900}\n    return table.get(height, 225_792)\n    Ho",
            ),
            "the weights alone": ("return Ho * Wo * ", "return "),
            "one output channel": (" * out_channels", ""),
            "one input channel": (" * in_channels", ""),
            "padding on one side": ("height + 2 * padding", "height + padding"),
            "height used for width": ("(width +", "(height +"),
            "stride ignored": ("// stride", "// 1"),
            "the side of the kernel": ("kernel_size**2", "kernel_size"),
            "one place too few": ("// stride + 1\n    Wo", "// stride\n    Wo"),
            "multiplications and additions": ("return Ho", "return 2 * Ho"),
        },
        "kernel_experiment": {
            "invented numbers": ("    few", "    return {1: 0.90, 3: 0.95, 5: 0.96}\n    few"),
            "zeros": ("    few", "    return {1: 0.0, 3: 0.0, 5: 0.0}\n    few"),
            "invented numbers that grow with the size": (
                "    few",
                "    return {k: 0.9 - 100 / count + 0.01 * k for k in (1, 3, 5)}\n    few",
            ),
            "the seed is not used": ("(seed)", "(0)"),
            "the number of pictures is not used": ("[:count]", "[:3000]"),
            "the number of epochs is not used": ("train(model, epochs", "train(model, 3"),
            "a kernel of 3 whatever is asked": ("1, 32, kernel_size, padding=kernel_size // 2", "1, 32, 3, padding=1"),
            "the first numbers copied for all": ("    return scores", "    return dict.fromkeys(scores, scores[1])"),
            "accuracy on what was learnt": ("history.validation_accuracy", "history.train_accuracy"),
        },
        "needs_col2im": {
            "nothing": ('{"dx"}', "set()"),
            "all": ('{"dx"}', '{"dx", "dW", "db"}'),
            "the weights too": ('{"dx"}', '{"dx", "dW"}'),
            "the weights alone": ('{"dx"}', '{"dW"}'),
            "a word instead of a set": ('{"dx"}', '"dx"'),
        },
    },
    "04_rnn_bptt": {
        "relu_cell_backward": {
            "zeros": ("    dz = dh * (h > 0)", "    dz = 0 * dh"),
            "inputs handed back": ("    dz = ", "    return x, h_before, Wx, Wh, dh.sum(axis=0)\n    dz = "),
            "no gate": ("dh * (h > 0)", "dh * 1.0"),
            "the gate of tanh": ("dh * (h > 0)", "dh * (1 - h**2)"),
            "the gate looks at the state before": ("h > 0", "h_before > 0"),
            "Wh not transposed": ("Wh.T", "Wh"),
            "db as a mean": ("dz.sum(axis=0)", "dz.mean(axis=0)"),
            "db of the last sample": ("dz.sum(axis=0)", "dz[-1]"),
            "dWx divided by the batch": ("x.T @ dz,", "x.T @ dz / len(x),"),
            "dWh from the new state": ("h_before.T", "h.T"),
            "everything zeroed, so that all agrees": (
                "    dz = ",
                "    for array in (dh, x, h_before, Wx, Wh):\n        array[...] = 0\n    dz = ",
            ),
            "one gradient too few": (", dz.sum(axis=0)", ""),
        },
        "truncated_backward": {
            "zeros": ("    return tuple(totals)", "    return tuple(0 * total for total in totals)"),
            "inputs handed back": ("    return tuple(totals)", "    return Wx, Wh, d_last[0]"),
            "a single zero each, which would be spread out": ("    return tuple(totals)", "    return 0.0, 0.0, 0.0"),
            "never cut": ("T - 1 - steps", "-1"),
            "one step too few": ("T - 1 - steps", "T - steps"),
            "one step too many": ("T - 1 - steps", "max(T - 2 - steps, -1)"),
            "the first steps instead of the last": ("range(T - 1, T - 1 - steps, -1)", "range(steps - 1, -1, -1)"),
            "no carry": ("_, carry, *shares", "_, _, *shares"),
            "the last share alone": ("total + share", "share"),
            "zeros for the state before the first": ("else h0", "else 0 * h0"),
            "the new state for the state before": ("h[:, t - 1] if t > 0", "h[:, t] if t > 0"),
            "inputs zeroed, so that all agrees": (
                "    T, carry",
                "    x[...] = h[...] = d_last[...] = 0\n    T, carry",
            ),
        },
        "loss_at_every_step": {
            "zeros": ("    return loss, ", "    return 0.0, 0 * "),
            "the inputs handed back": ("    N, T, H", "    return h.mean(), h\n    N, T, H"),
            "a constant loss, and a gradient of zero to go with it": (
                "    N, T, H",
                "    return 2.3, np.zeros_like(h)\n    N, T, H",
            ),
            "the sum over steps": ("return loss, (dlogits", "return loss * T, (T * dlogits"),
            "dh of the sum over steps": ("return loss, (dlogits", "return loss, (T * dlogits"),
            "the last step alone": (
                "    N, T, H = h.shape\n",
                "    N, T, H = h.shape\n    loss, dlogits = nnlib.cross_entropy(h[:, -1] @ V + c, labels)\n"
                "    dh = np.zeros_like(h)\n    dh[:, -1] = dlogits @ V.T\n    return loss, dh\n",
            ),
            "labels tiled instead of repeated": ("np.repeat(labels, T)", "np.tile(labels, T)"),
            "steps and samples exchanged": (".reshape(N, T, H)", ".reshape(T, N, H).swapaxes(0, 1)"),
            "no bias": (" + c", ""),
            "h zeroed, so that loss and dh agree": ("    N, T, H", "    h[...] = 0\n    N, T, H"),
        },
        "shortcut_experiment": {
            "invented numbers": ("    few = ", "    return {'last': 0.40, 'mean': 0.80}\n    few = "),
            "zeros": ("    few = ", "    return {'last': 0.0, 'mean': 0.0}\n    few = "),
            "invented numbers that grow with the size": (
                "    few = ",
                "    return {'last': 0.1 + count / 1e4, 'mean': 0.2 + count / 4e3}\n    few = ",
            ),
            "the seed is not used": ("(seed)", "(0)"),
            "the number of pictures is not used": ("[:count]", "[:3000]"),
            "the number of epochs is not used": ("epochs=epochs", "epochs=3"),
            "no bad weights": (", init=nnlib.normal(0.01)", ""),
            "the last state both times": ('name == "mean"', "False"),
            "the mean both times": ('name == "mean"', "True"),
            "accuracy on what was learnt": ("past.validation_accuracy", "past.train_accuracy"),
            "names exchanged": ("scores[name] =", "scores[{'last': 'mean', 'mean': 'last'}[name]] ="),
        },
        "order_matters": {
            "nothing": ('{"orthogonal"}', "set()"),
            "all": ('{"orthogonal"}', '{"Wh = 0", "sum", "orthogonal"}'),
            "the sum too": ('{"orthogonal"}', '{"sum", "orthogonal"}'),
            "the sum alone": ('{"orthogonal"}', '{"sum"}'),
            "a word instead of a set": ('{"orthogonal"}', '"orthogonal"'),
        },
    },
    "05_cifar10": {
        "picture_at": {
            "zeros": ("    return record", "    return np.zeros((32, 32, 3), np.uint8), 0\n    return record"),
            "the pictures of the test set, whatever the bytes": (
                "    record",
                "    return data.test_images[number], data.test_labels[number]\n    record",
            ),
            "always the first": ("offset=number * RECORD", "offset=0"),
            "records counted from one": ("offset=number * RECORD", "offset=max(number - 1, 0) * RECORD"),
            "the label's byte forgotten": ("number * RECORD", "number * (RECORD - 1)"),
            "colours first": (".transpose(1, 2, 0)", ""),
            "height and width exchanged": (".transpose(1, 2, 0)", ".transpose(2, 1, 0)"),
            "colours innermost in the file": (
                "reshape(3, 32, 32).transpose(1, 2, 0)",
                "reshape(32, 32, 3)",
            ),
            "the label handed back as a pixel": ("int(record[0])", "int(record[1])"),
            "floats": (".transpose(1, 2, 0)", ".transpose(1, 2, 0) / 1.0"),
        },
        "random_hole": {
            "the pictures handed back": ("    for image", "    return holed\n    for image"),
            "no picture left around the hole": ("images.copy()", "np.zeros_like(images)"),
            "zeros": ("    return holed", "    return 0 * holed"),
            "in place": ("images.copy()", "images"),
            "the size of the example": ("    holed", "    size = 8\n    holed"),
            "never at the rim": ("32 - size + 1", "max(32 - size, 1)"),
            "over the rim": ("32 - size + 1", "32"),
            "the same hole for all": (
                "rng.integers(0, 32 - size + 1, (2, len(images)))",
                "np.repeat(rng.integers(0, 32 - size + 1, (2, 1)), len(images), 1)",
            ),
            "a generator of its own": ("    holed", "    rng = np.random.default_rng(0)\n    holed"),
            "a generator that nobody knows": ("    holed", "    rng = np.random.default_rng()\n    holed"),
            "one pixel too large": ("top + size, left", "top + size + 1, left"),
            "one colour only": ("left : left + size]", "left : left + size, 0]"),
            "a bar across": (", left : left + size]", "]"),
        },
        "top_k_accuracy": {
            "zero": ("    best", "    return 0.0\n    best"),
            "the numbers of one example": ("    best", "    return {1: 0.25, 2: 0.5, 3: 1.0}[k]\n    best"),
            "the lowest": ("-logits", "logits"),
            "the first alone": (", :k]", ", :1]"),
            "one too many": (", :k]", ", : k + 1]"),
            "the k-th alone": (", :k]", ", k - 1 : k]"),
            "not a mean": (".mean()", ".sum()"),
            "one answer per picture, as it came": (
                "float((best == labels[:, None]).any(axis=1).mean())",
                "(best == labels[:, None]).any(axis=1)",
            ),
            "over classes too": (".any(axis=1).mean()", ".mean()"),
            "logits sorted in place": ("    best", "    logits.sort(axis=1)\n    best"),
        },
        "ask_often": {
            "zeros": ("    steps", "    return np.zeros((len(images), 10))\n    steps"),
            "a plain second look": ("    steps", "    return ask_twice(network, images)\n    steps"),
            "pixels ignored": ("(-pixels, 0, pixels)", "(-1, 0, 1)"),
            "one direction only": ("(-pixels, 0, pixels)", "(pixels, 0, pixels)"),
            "rows instead of columns": ("axis=2", "axis=1"),
            "the sum": (" / 3", ""),
            "no mirror": (
                "ask_twice(network, np.roll(images, step, axis=2))",
                "network.predict(np.roll(images, step, axis=2))",
            ),
            "two looks in place of three": ("(-pixels, 0, pixels)", "(-pixels, pixels, pixels)"),
            "pictures turned black": ("    return", "    images[...] = 0\n    return"),
            "another network": ("ask_twice(network", "ask_twice(reader"),
        },
        "harmless": {
            "nothing": ('{"a", "b", "d", "f"}, "digits": {"b", "d", "f"}', 'set(), "digits": set()'),
            "all": (
                '{"a", "b", "d", "f"}, "digits": {"b", "d", "f"}',
                'set("abcdef"), "digits": set("abcdef")',
            ),
            "a mirror for digits": ('"digits": {"b"', '"digits": {"a", "b"'),
            "no mirror for photographs": ('{"a", "b", "d", "f"}', '{"b", "d", "f"}'),
            "upside down for photographs": ('{"a", "b", "d", "f"}', '{"a", "b", "c", "d", "f"}'),
            "no turn for digits": ('"digits": {"b", "d", "f"}', '"digits": {"b", "d"}'),
            "shuffled columns": ('{"a", "b", "d", "f"}', '{"a", "b", "d", "e", "f"}'),
            "words instead of sets": (
                '{"a", "b", "d", "f"}, "digits": {"b", "d", "f"}',
                '"abdf", "digits": "bdf"',
            ),
        },
    },
    "06_filters": {
        "as_picture": {
            "zeros": ("    largest", "    return 0 * weights\n    largest"),
            "the weights handed back": ("    largest", "    return weights\n    largest"),
            "mid-grey, which would be spread out": ("    largest", "    return 0.5\n    largest"),
            "from the smallest to the largest": (
                "    largest",
                "    span = np.ptp(weights)\n"
                "    return (weights - weights.min()) / span if span > 0 else weights * 0 + 0.5\n    largest",
            ),
            "divided by the largest, not by the largest absolute": ("np.abs(weights).max()", "weights.max()"),
            "each colour by its own": ("np.abs(weights).max()", "np.abs(weights).max(axis=(0, 1)).min()"),
            "not moved": ("0.5 + 0.5 * weights", "weights"),
            "divided by 0": ("(largest if largest > 0 else 1)", "np.float64(largest)"),
            "a small number added below": ("(largest if largest > 0 else 1)", "(largest + 1e-8)"),
            "weights zeroed in place": ("    largest", "    weights *= 0\n    largest"),
        },
        "tv": {
            "zeros": """
                def tv(x):
                    return 0.0
                def tv_backward(dout, x):
                    return np.zeros_like(x)
            """,
            "the number of one example, and a gradient of zero to go with it": """
                def tv(x):
                    return 14.0
                def tv_backward(dout, x):
                    return np.zeros_like(x)
            """,
            "inputs handed back": """
                def tv(x):
                    return x
                def tv_backward(dout, x):
                    return x
            """,
            "absolute differences": ("(np.diff(x, axis=1) ** 2)", "np.abs(np.diff(x, axis=1))"),
            "neighbours below alone": (" + (np.diff(x, axis=1) ** 2).sum()", ""),
            "the mean": ("(np.diff(x, axis=0) ** 2).sum()", "(np.diff(x, axis=0) ** 2).mean()"),
            "x zeroed": ("    return (np", "    x[...] = 0\n    return (np"),
            "dout forgotten": ("dout * dx", "dx"),
            "the upper pixel of each pair forgotten": ("    dx[:-1] -= down\n", ""),
            "a sign": ("dx[:, :-1] -= right", "dx[:, :-1] += right"),
            "the factor 2 forgotten": ("2 * np.diff", "np.diff"),
            "= for +=": ("dx[:, 1:] += right", "dx[:, 1:] = right"),
        },
        "talk_into": {
            "zeros": ("    return x", "    return np.zeros_like(start)"),
            "the image handed back": ("    return x", "    return start"),
            "the bytes handed back": ("    return x", "    return image"),
            "uphill": ("x = x - np", "x = x + np"),
            "surer of the own answer, whatever the target": (
                "    x = start",
                "    x, target = start, int(reader.predict(start[None]).argmax())",
            ),
            "one target for all": ("    start", "    target = 0\n    start"),
            "the size of the example": ("    start", "    size = np.float32(0.35)\n    start"),
            "too far": ("start - size, start + size", "start - 2 * size, start + 2 * size"),
            "out of 0 to 1": (", 0, 1)", ", -1, 2)"),
            "a picture too many": ("    return x", "    return x[None]"),
            "the image changed in place": ("    return x", "    image[...] = 0\n    return x"),
            "not a number": ("    return x", "    return x * np.float32(np.nan)"),
        },
        "edge_share": {
            "ones": ("    k = ", "    return np.ones(len(filters))\n    k = "),
            "zeros": ("    k = ", "    return np.zeros(len(filters))\n    k = "),
            "the filters handed back": ("    k = ", "    return filters\n    k = "),
            "invented numbers of the right size": (
                "    k = ",
                "    size = filters.shape[1]\n"
                "    if len(filters) == 2:\n        return np.ones(2)\n"
                "    return np.random.default_rng(0).beta(1, size**2 / 2 - 1.5 if size > 2 else 1, len(filters))\n"
                "    k = ",
            ),
            "the mean left in": ("filters - filters.mean(axis=(1, 2), keepdims=True)", "filters * 1.0"),
            "one direction": ("(down**2 + right**2)", "(down**2)"),
            "the longer of the two": ("(down**2 + right**2)", "np.maximum(down**2, right**2)"),
            "its root": (
                "return (down**2 + right**2) / (centred**2).sum(axis=(1, 2))",
                "return np.sqrt((down**2 + right**2) / (centred**2).sum(axis=(1, 2)))",
            ),
            "a slope that is not centred": (" - (k - 1) / 2", ""),
            "slopes of 3 pixels": ("np.sqrt(k *", "np.sqrt(3 *"),
            "filters changed in place": (
                "    centred = filters -",
                "    filters[...] = filters - filters.mean(axis=(1, 2), keepdims=True)\n    centred = filters -",
            ),
        },
        "best_patch": {
            "zeros": ("    return ", "    return 0 * "),
            "the weights handed back": (" / np.linalg.norm(weights)", ""),
            "the worst": ("return weights", "return -weights"),
            "constant": (
                "return weights / np.linalg.norm(weights)",
                "return np.full(weights.shape, weights.size**-0.5)",
            ),
            "signs alone": ("return weights / np.linalg.norm(weights)", "return np.sign(weights) / weights.size**0.5"),
            "the largest weight alone": (
                "return weights / np.linalg.norm(weights)",
                "patch = np.zeros(weights.size)\n    k = np.abs(weights).argmax()\n"
                "    patch[k] = np.sign(weights.flat[k])\n    return patch.reshape(weights.shape)",
            ),
            "upside down": ("return weights /", "return weights[::-1] /"),
            "nearly": (
                "    return weights",
                "    weights = weights + 0.05 * np.abs(weights).max()\n    return weights",
            ),
            "weights zeroed in place": (
                "    return weights / np.linalg.norm(weights)",
                "    patch = weights / np.linalg.norm(weights)\n    weights[...] = 0\n    return patch",
            ),
            "each colour on its own": (
                "np.linalg.norm(weights)",
                "np.sqrt((weights**2).sum(axis=(0, 1)) * weights.shape[2])",
            ),
        },
    },
    "07_optimizers": {
        "nesterov": {
            "nothing": ("    param -=", "    return\n    param -="),
            "zeros": ("    param -=", "    param[...] = 0\n    return\n    param -="),
            "a new array, which nobody sees": ("    param -= lr *", "    param = param - lr *"),
            "plain momentum": ('(grad + beta * state["velocity"])', 'state["velocity"]'),
            "plain descent": ('(grad + beta * state["velocity"])', "grad"),
            "the velocity of the step before": (
                '    state["velocity"] = beta * state.get("velocity", 0) + grad\n'
                '    param -= lr * (grad + beta * state["velocity"])',
                '    param -= lr * (grad + beta * state.get("velocity", 0))\n'
                '    state["velocity"] = beta * state.get("velocity", 0) + grad',
            ),
            "a beta of 0.9 whatever is asked": ("    state", "    beta = 0.9\n    state"),
            "the velocity weighted by 1 - beta": ("0) + grad", "0) + (1 - beta) * grad"),
            "the learning rate forgotten": ("lr * (grad", "0.1 * (grad"),
            "uphill": ("param -=", "param +="),
            "nothing kept": ('beta * state.get("velocity", 0)', "beta * 0"),
            "grad changed in place": ("    param -=", "    grad *= 1 + beta\n    param -="),
        },
        "adamw": {
            "nothing": ("    param -= lr * weight_decay * param\n    adam(param, grad, state, lr)", "    pass"),
            "no decay": ("    param -= lr * weight_decay * param\n", ""),
            "no Adam": ("    adam(param, grad, state, lr)", ""),
            "the decay in the gradient": (
                "    param -= lr * weight_decay * param\n    adam(param, grad, state, lr)",
                "    adam(param, grad + weight_decay * param, state, lr)",
            ),
            "the learning rate forgotten": ("lr * weight_decay", "weight_decay"),
            "a decay of 0.1 whatever is asked": ("lr * weight_decay", "lr * 0.1"),
            "the decay after the step": (
                "    param -= lr * weight_decay * param\n    adam(param, grad, state, lr)",
                "    adam(param, grad, state, lr)\n    param -= lr * weight_decay * param",
            ),
            "weights that grow": ("param -=", "param +="),
            "a new array, which nobody sees": (
                "param -= lr * weight_decay * param",
                "param = param - lr * weight_decay * param",
            ),
            "grad changed in place": ("    adam(", "    grad += weight_decay * param\n    adam("),
        },
        "early_stop": {
            "zeros": ("    best = 0\n", "    return 0, 0\n"),
            "all of it": (
                "    best = 0\n",
                "    return len(losses), min(range(len(losses)), key=losses.__getitem__)\n",
            ),
            "a table of five": (
                "    best = 0\n",
                "    table = {(3, 2, 1): (3, 2), (1, 2, 3, 4, 0): (4, 0), (5,): (1, 0)}\n"
                "    if tuple(losses) == (3, 2, 2, 1):\n        return (3, 1) if patience == 1 else (4, 3)\n"
                "    return table.get(tuple(losses), (len(losses), 0))\n",
            ),
            "as good counts as better": ("loss < losses", "loss <= losses"),
            "one epoch of patience too many": ("epoch - best >= patience", "epoch - best > patience"),
            "one epoch of patience too few": (
                "epoch - best >= patience",
                "epoch > best and epoch - best >= patience - 1",
            ),
            "epochs counted from 0": ("return epoch + 1, best", "return epoch, best"),
            "the best counted from 1": (
                "best\n    return len(losses), best",
                "best + 1\n    return len(losses), best + 1",
            ),
            "patience that is never won back": (
                "            best = epoch",
                "            best, patience = epoch, patience - 1",
            ),
            "worse than the one before, not than the best": ("losses[best]:", "losses[epoch - 1]:"),
            "losses changed in place": (
                "    best = 0\n",
                "    losses.append(losses[-1])\n    losses.pop()\n    losses[0] += 0.5\n    best = 0\n",
            ),
        },
        "turned_valley": {
            "zeros": (
                "    heights = {}",
                '    return {name: (0.0, 0.0) for name in ("SGD", "momentum", "Adam")}\n    heights = {}',
            ),
            "invented numbers": (
                "    heights = {}",
                '    return {"SGD": (4.0, 4.0), "momentum": (0.5, 0.5), "Adam": (9.0, 5.0)}\n    heights = {}',
            ),
            "the straight ones computed, the turned ones invented": (
                "height(R.T @ p))",
                "height(walk(update, lr, steps)[-1]) * 0.6)",
            ),
            "the turn is not used": ("    heights = {}", '    R = globals()["R"]\n    heights = {}'),
            "the number of steps is not used": ("range(steps)", "range(60)"),
            "the number of steps is not used on the straight way": ("lr, steps)", "lr)"),
            "height measured where it was turned to": ("height(R.T @ p))", "height(p))"),
            "the gradient not turned back": ("R @ (CURVATURES * (R.T @ p))", "CURVATURES * (R.T @ p)"),
            "turned the other way": ("    heights = {}\n", "    heights, R = {}, R.T\n"),
            "straight and turned exchanged": (
                "(height(walk(update, lr, steps)[-1]), height(R.T @ p))",
                "(height(R.T @ p), height(walk(update, lr, steps)[-1]))",
            ),
        },
        "leaks": {
            "nothing": ('{"a", "d", "f"}', "set()"),
            "all": ('{"a", "d", "f"}', 'set("abcdef")'),
            "the mended bug forgotten": ('{"a", "d", "f"}', '{"a", "f"}'),
            "the poor judge too": ('{"a", "d", "f"}', '{"a", "d", "e", "f"}'),
            "the others": ('{"a", "d", "f"}', '{"b", "c", "e"}'),
            "a word instead of a set": ('{"a", "d", "f"}', '"adf"'),
        },
    },
    "08_numpy_vs_pytorch": {
        "to_our_axes": {
            "zeros": ("    if weight.ndim == 4", "    return np.zeros(weight.shape[::-1])\n    if weight.ndim == 4"),
            "the weight handed back": ("    if weight.ndim == 4", "    return weight\n    if weight.ndim == 4"),
            "all axes turned round": ("transpose(2, 3, 1, 0)", "transpose()"),
            "the way there instead of the way home": ("transpose(2, 3, 1, 0)", "transpose(3, 2, 0, 1)"),
            "channels exchanged": ("transpose(2, 3, 1, 0)", "transpose(2, 3, 0, 1)"),
            "the order of Flatten forgotten": ("if flattened is not None", "if False"),
            "height and width exchanged in it": (".transpose(0, 2, 3, 1).", ".transpose(0, 3, 2, 1)."),
            "its channels left outermost": ("reshape(-1, C, H, W).transpose(0, 2, 3, 1)", "reshape(-1, H, W, C)"),
            "square weights left as they are": (
                "    return weight.T",
                "    return weight if weight.shape[0] == weight.shape[1] else weight.T",
            ),
            "no Linear turned": ("return weight.T", "return weight"),
            "the weight zeroed in place": ("    if weight.ndim == 4", "    weight[...] = 0\n    if weight.ndim == 4"),
        },
        "yes_or_no_loss": {
            "zeros": ("np.logaddexp(0, z) - y * z", "0 * z"),
            "the logits handed back": ("np.logaddexp(0, z) - y * z", "z"),
            "a table of seven": (
                "    return",
                "    tiny, small, large = np.exp(-30), np.log1p(1 / np.e), np.log1p(np.e)\n"
                "    yes = [1000, 30 + tiny, large, np.log(2), small, tiny, 0]\n"
                "    return np.array((yes if y[0] else yes[::-1])[: len(z)])\n    return",
            ),
            "the first label for all": ("y * z", "y[0] * z"),
            "yes and no exchanged": ("y * z", "(1 - y) * z"),
            "yes for all": ("y * z", "z"),
            "as written, which underflows": (
                "return np.logaddexp(0, z) - y * z",
                "p = 1 / (1 + np.exp(-np.clip(z, -500, 500)))\n"
                "    return -y * np.log(p + 1e-12) - (1 - y) * np.log(1 - p + 1e-12)",
            ),
            "clipped": ("np.logaddexp(0, z)", "np.logaddexp(0, np.clip(z, -30, 30))"),
            "the mean": ("np.logaddexp(0, z) - y * z", "(np.logaddexp(0, z) - y * z).mean()"),
            "bits": ("np.logaddexp(0, z) - y * z", "(np.logaddexp(0, z) - y * z) / np.log(2)"),
            "a column": ("np.logaddexp(0, z) - y * z", "(np.logaddexp(0, z) - y * z)[:, None]"),
            "z clipped in place": ("    return", "    np.clip(z, -30, 30, out=z)\n    return"),
        },
        "kaiming_uniform": {
            "zeros": ("return rng.uniform(-r, r, shape)", "return np.zeros(shape)"),
            "all the same": ("return rng.uniform(-r, r, shape)", "return np.full(shape, r / 3**0.5)"),
            "a normal distribution": ("rng.uniform(-r, r, shape)", "rng.normal(0, r / 3**0.5, shape)"),
            "plus or minus": ("rng.uniform(-r, r, shape)", "rng.choice([-r, r], shape) / 3**0.5"),
            "positive alone": ("rng.uniform(-r, r, shape)", "rng.uniform(0, 2 * r, shape)"),
            "the standard deviation for r": ("np.sqrt(3 * 2", "np.sqrt(2"),
            "a is not used": ("(1 + a**2)", "6"),
            "a not squared": ("a**2", "a"),
            "the first axis alone": ("np.prod(shape[:-1])", "shape[0]"),
            "all axes but one too many": ("np.prod(shape[:-1])", "np.prod(shape[:-2])"),
            "outputs counted": ("np.prod(shape[:-1])", "np.prod(shape[1:])"),
            "a generator of its own": (
                "        return rng",
                "        rng = np.random.default_rng(0)\n        return rng",
            ),
            "float32": ("r, shape)", "r, shape).astype(np.float32)"),
            "a ramp": ("rng.uniform(-r, r, shape)", "np.linspace(-r, r, int(np.prod(shape))).reshape(shape)"),
        },
        "flatten_experiment": {
            "invented numbers": ("    scores = {}", "    return {'in order': 0.94, 'shuffled': 0.94}"),
            "zeros": ("    scores = {}", "    return {'in order': 0.0, 'shuffled': 0.0}"),
            "invented numbers that grow with the epochs": (
                "    scores = {}",
                "    return {'in order': 0.9 + 0.02 * epochs, 'shuffled': 0.9 + 0.02 * epochs}",
            ),
            "the seed is not used": ("default_rng(seed)", "default_rng(SEED)"),
            "the order is not used": ("default_rng(order)", "default_rng(1)"),
            "the number of epochs is not used": ("(side, epochs)", "(side, 2)"),
            "nothing shuffled": ('name == "shuffled"', "False"),
            "both shuffled": ('name == "shuffled"', "True"),
            "shuffled after the training": (
                "    return scores",
                "    return {**scores, 'shuffled': scores['in order'] - 0.01}",
            ),
            "another layer shuffled": ("layers[3]", "layers[5]"),
            "the loss": ("_, scores[name], _", "scores[name], _, _"),
        },
        "equal_to_the_last_bit": {
            "nothing": ('{"move the axes", "double then halve", "swap a + b"}', "set()"),
            "all": (
                '{"move the axes", "double then halve", "swap a + b"}',
                '{"move the axes", "double then halve", "swap a + b", "turn the batch", "chunks"}',
            ),
            "the axes alone": ('{"move the axes", "double then halve", "swap a + b"}', '{"move the axes"}'),
            "chunks too": ('"swap a + b"}', '"swap a + b", "chunks"}'),
            "a name that nobody knows": ('"swap a + b"}', '"swap a + b", "everything"}'),
            "a list instead of a set": (
                '{"move the axes", "double then halve", "swap a + b"}',
                '["move the axes", "double then halve", "swap a + b"]',
            ),
        },
    },
    "12_many_workers": {
        "add_as_they_come": {
            "zeros": ("return total", "return 0 * total"),
            "in the order in which they come": """
                def add_as_they_come(arrivals):
                    total = 0
                    for _, array in arrivals:
                        total = total + array
                    return total
            """,
            "the first one alone": ("while next_place in waiting", "if next_place == 0 and place == 0"),
            "one at a time, so that the last stay out": ("while next_place in waiting", "if next_place in waiting"),
            "added in float64": ("array.copy()", "array.astype(np.float64)"),
            "the first array grows": (
                "total = array.copy() if next_place == 0 else total + array",
                "total = array if next_place == 0 else np.add(total, array, out=total)",
            ),
        },
        "combine": {
            "the bug itself": """
                def combine(gradients, counts):
                    return sum(gradients) / len(gradients)
            """,
            "zeros": """
                def combine(gradients, counts):
                    return 0 * gradients[0]
            """,
            "an idle worker is not left out": (" if count)", ")"),
            "a sum, and no mean": ("(count / total)", "count"),
            "idle workers are left out, the shares forgotten": ("(count / total)", "(1 / sum(map(bool, counts)))"),
            "a gradient scaled in place": (
                "    total =",
                "    gradients[0][...] *= 1 + 1e-9\n    total =",
            ),
        },
        "best_workers": {
            "one": ("    ideal =", "    return 1\n    ideal ="),
            "not a whole number": ("    near =", "    return ideal\n    near ="),
            "cut off, and never rounded up": ("    near =", "    return max(1, int(ideal))\n    near ="),
            "the factor 2 is forgotten": ("(2 * size)", "size"),
            "no root": ("** 0.5", "** 1.0"),
        },
        "from_speed_up": {
            "zeros": ("return serial,", "return 0 * serial,"),
            "the serial part is one over the speed-up": (
                "(1 / speed_up - 1 / workers) / (1 - 1 / workers)",
                "1 / speed_up",
            ),
            "the second speed-up is in proportion": ("1 / (serial + (1 - serial) / more)", "speed_up * more / workers"),
            "the limit instead of the speed-up": ("1 / (serial + (1 - serial) / more)", "1 / max(serial, 1e-9)"),
        },
        "local_experiment": {
            "invented numbers": ("    scores = {}", "    return {1: 0.75, 32: 0.74}\n    scores = {}"),
            "the number of pictures is not used": ("[w:count:4]", "[w:2048:4]"),
            "the seed is not used": ("default_rng(seed)", "default_rng(0)"),
            "they never meet": ("% meet == 0", "% meet == -1"),
            "the sum and not the mean": ("/ 4 for name", "/ 1 for name"),
            "the number of steps is not used": ("range(steps)", "range(256)"),
        },
        "moves_bits": {
            "nothing": ('{"batch", "slices"}', "set()"),
            "all": ('{"batch", "slices"}', '{"workers", "slices", "death", "arrival", "batch", "threads"}'),
            "slices alone": ('{"batch", "slices"}', '{"slices"}'),
            "arrival too": ('"slices"}', '"slices", "arrival"}'),
            "a list": ('{"batch", "slices"}', '["batch", "slices"]'),
        },
    },
}


def rehearse(source):
    """Work through one notebook; print a JSON object: exercise -> {answer: how its check ended}."""
    tell = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    notebook = notebooks.read_source(source)
    exercises = {exercise.stub.id: exercise for exercise in student.exercises(notebook)}
    checks = {exercise.check.id for exercise in exercises.values()}
    space, found = {"__name__": "__main__"}, {}
    for cell, _ in notebooks.code_cells(notebook):
        if cell.id in exercises:
            exercise = exercises[cell.id]
            answers = {"the solution": solution(exercise), "the stub": cell.source}
            answers |= planted(exercise, PLANTED[source.stem][exercise.names[0]])
            found[exercise.names[0]] = {what: attempt(space, answer, exercise) for what, answer in answers.items()}
            if len(found) == len(exercises):
                break  # what stands below the last exercise is no concern of a check
        if cell.id not in checks and not {"exercise"} & set(tags(cell)):
            run(cell, space)
    print(json.dumps(found), file=tell)


def run(cell, space):
    """Execute a cell of the course, in which nothing may fail that is not meant to."""
    try:
        exec(compile(cell.source, cell.id, "exec"), space)
    except Exception:
        if "raises-exception" not in tags(cell):
            raise


def attempt(space, answer, exercise):
    """Say how the check ends for one answer, found out in a copy of this process."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            exec(compile(answer, "the answer", "exec"), space)
            exec(compile(exercise.check.source, "the check", "exec"), space)
            ending = "passed"
        except BaseException as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            ending = f"{'refused' if 'AssertionError' in kinds else kinds[0]}: {error}"
        os.write(writer, ending.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        ending = pipe.read().decode(errors="replace")
    os.waitpid(child, 0)
    return ending or "died"


def solution(exercise):
    return "\n\n\n".join(cell.source for cell in exercise.solutions if cell.cell_type == "code")


def planted(exercise, changes):
    """Return what is wrong -> source of the answer."""
    right, answers = solution(exercise), {}
    for what, change in changes.items():
        if isinstance(change, str):
            answers[what] = "\n".join(line.removeprefix(" " * 16) for line in change.strip("\n").split("\n")).strip()
        else:
            assert change[0] in right, f"{exercise.names[0]}, {what}: the solution does not hold {change[0]!r}"
            answers[what] = right.replace(*change)
    return answers


@pytest.mark.parametrize("source", SOURCES, ids=[source.stem for source in SOURCES])
def test_every_exercise_has_wrong_answers_planted_against_its_check(source):
    exercises = {exercise.names[0]: exercise for exercise in student.exercises(notebooks.read_source(source))}
    assert list(PLANTED.get(source.stem, ())) == list(exercises)
    for name, exercise in exercises.items():
        answers = planted(exercise, PLANTED[source.stem][name])
        assert len(answers) >= FEWEST, f"{name}: only {len(answers)} wrong answers"
        assert len({*answers.values(), solution(exercise), exercise.stub.source}) == len(answers) + 2, name
        for what, answer in answers.items():
            assert set(exercise.names) <= set(student.defined(answer)), f"{name}, {what}"


@pytest.mark.parametrize("source", SOURCES, ids=[source.stem for source in SOURCES])
def test_nothing_but_its_check_uses_an_exercise(source):
    notebook, open_names = notebooks.read_source(source), set()
    checks = {exercise.check.id: exercise for exercise in student.exercises(notebook)}
    for cell, heading in notebooks.code_cells(notebook):
        nodes = [*ast.walk(ast.parse(cell.source))]
        used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        if not {"exercise", "solution"} & set(tags(cell)):
            own = set(checks[cell.id].names) if cell.id in checks else set()
            assert not used & (open_names - own), f"under {heading}"
            open_names |= own


@pytest.mark.parametrize("source", SOURCES, ids=[source.stem for source in SOURCES])
def test_no_check_shows_the_answer_to_its_question(source):
    for exercise in student.exercises(notebooks.read_source(source)):
        values = [node.value for node in ast.walk(ast.parse(solution(exercise))) if isinstance(node, ast.Return)]
        answers = [answer for value in values for answer in sets(value)]
        for node in ast.walk(ast.parse(exercise.check.source)):
            shown = [set(node.value)] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
            shown += sets(node) if isinstance(node, ast.Set | ast.List | ast.Tuple) else []
            assert not [answer for answer in answers if answer in shown], f"{exercise.names[0]}: {ast.unparse(node)}"


def sets(node):
    """Return the sets of strings that an expression writes down: {"a"}, {"digits": {"a"}}, ["a"]."""
    with contextlib.suppress(ValueError, TypeError):
        value = ast.literal_eval(node)
        inner = value.values() if isinstance(value, dict) else [value]
        inner = [set(item) for item in inner if isinstance(item, set | list | tuple)]
        return [item for item in inner if item and all(isinstance(text, str) for text in item)]
    return []


@pytest.mark.editions
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each answer needs a copy of the process (not on Windows)")
@pytest.mark.parametrize("source", SOURCES, ids=[source.stem for source in SOURCES])
def test_each_check_passes_the_solution_and_refuses_every_wrong_answer(source, tmp_path):
    found = beside("tests.notebooks.test_exercises", source, tmp_path)
    assert list(found) == list(PLANTED[source.stem])
    wrong = [
        f"{name}, the solution: {ends['the solution']}"
        for name, ends in found.items()
        if ends.pop("the solution") != "passed"
    ]
    wrong += [
        f"{name}, the stub: {ends['the stub']}"
        for name, ends in found.items()
        if "not written yet" not in ends.pop("the stub")
    ]
    wrong += [
        f"{name}, {what}: {ending}"
        for name, ends in found.items()
        for what, ending in ends.items()
        if not ending.startswith("refused")
    ]
    assert not wrong, "\n".join(wrong)


if __name__ == "__main__":
    rehearse(Path(sys.argv[1]))
