"""Every check of every exercise, against answers that are wrong: each must be refused, and the solution passed.

A wrong answer is planted as a whole source, or as a change of the solution: (what stands there, what takes its place).
The plants are what lazy, hurried and dishonest answers look like: zeros, the inputs handed back, the numbers of a
visible example, the classic bug of the exercise, an input changed in place, invented numbers of an experiment.

One pass per notebook, on the sample of the data: slow, so a part of the stage `pytest -m editions`. At each exercise
the process forks once per answer; the copy tries it and ends, and the pass goes on with the solution.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.instructor import student
from tools.shared import notebooks, pinned
from tools.shared.notebooks import ROOT, tags

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
}

SOURCES = [source for source in notebooks.find(ROOT / "notebooks") if source.stem in PLANTED]


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
        if cell.id not in checks and not {"exercise"} & set(tags(cell)) and not notebooks.is_left_out(cell):
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
    assert set(PLANTED[source.stem]) == set(exercises)
    for name, exercise in exercises.items():
        answers = planted(exercise, PLANTED[source.stem][name])
        assert len(answers) >= FEWEST, f"{name}: only {len(answers)} wrong answers"
        assert len({*answers.values(), solution(exercise), exercise.stub.source}) == len(answers) + 2, name
        for what, answer in answers.items():
            assert set(exercise.names) <= set(student.defined(answer)), f"{name}, {what}"


@pytest.mark.editions
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each answer needs a copy of the process (not on Windows)")
@pytest.mark.parametrize("source", SOURCES, ids=[source.stem for source in SOURCES])
def test_each_check_passes_the_solution_and_refuses_every_wrong_answer(source, tmp_path):
    with notebooks.clean_room({} if pinned.obstacle() else pinned.PINNED, NNLIB_DATA="sample", MPLBACKEND="agg") as env:
        command = [sys.executable, "-W", "ignore", "-m", "tests.notebooks.test_exercises", str(source)]
        env = env | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
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
