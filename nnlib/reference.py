"""The obvious loop versions of the layers: slow, and so plain that you can check them against the formula by eye.

Their one idea: every output is one sum, and every multiplication in it sends two gradients back: to the pixel through
the weight, and to the weight through the pixel. Notebook 02 writes them; tests hold the fast layers against them.

Pictures are (N, H, W, C), kernels (kh, kw, C_in, C_out); a size, stride or padding is an int or a pair (height, width).
Sequences are (N, T, D), the weights of a recurrence Wx (D, H), Wh (H, H) and b (H,).
"""

import numpy as np


def conv2d(x, W, b, stride=1, padding=0):
    """Slide the kernels W over the pictures x: x (N, H, W, C_in), b (C_out,). Returns (N, Ho, Wo, C_out)."""
    (sh, sw), x = _pair(stride), _pad(x, padding)
    kh, kw, C_in, C_out = W.shape
    N, Ho, Wo = _positions(x, (kh, kw), stride)
    y = np.zeros((N, Ho, Wo, C_out), x.dtype)
    for n in range(N):
        for row in range(Ho):
            for column in range(Wo):
                for c_out in range(C_out):
                    total = b[c_out]
                    for i in range(kh):
                        for j in range(kw):
                            for c_in in range(C_in):
                                total += x[n, row * sh + i, column * sw + j, c_in] * W[i, j, c_in, c_out]
                    y[n, row, column, c_out] = total
    return y


def conv2d_backward(dout, x, W, stride=1, padding=0):
    """Run the same seven loops backward. dout: (N, Ho, Wo, C_out). Returns (dx, dW, db) in the shapes of x, W and b."""
    (sh, sw), shape, x = _pair(stride), x.shape, _pad(x, padding)
    kh, kw, C_in, C_out = W.shape
    N, Ho, Wo = _positions(x, (kh, kw), stride)
    dx, dW, db = np.zeros_like(x), np.zeros_like(W), np.zeros(C_out, W.dtype)
    for n in range(N):
        for row in range(Ho):
            for column in range(Wo):
                for c_out in range(C_out):
                    d = dout[n, row, column, c_out]
                    db[c_out] += d
                    for i in range(kh):
                        for j in range(kw):
                            for c_in in range(C_in):
                                dx[n, row * sh + i, column * sw + j, c_in] += d * W[i, j, c_in, c_out]
                                dW[i, j, c_in, c_out] += d * x[n, row * sh + i, column * sw + j, c_in]
    return _unpad(dx, shape, padding), dW, db


def max_pool2d(x, size, stride=None, padding=0):
    """Return the largest value of each window, (N, Ho, Wo, C), of x (N, H, W, C). Padding counts as minus infinity."""
    (kh, kw), (sh, sw), x = _pair(size), _pair(stride or size), _pad(x, padding, -np.inf)
    N, Ho, Wo = _positions(x, size, (sh, sw))
    y = np.zeros((N, Ho, Wo, x.shape[3]), x.dtype)
    for n, row, column, c in np.ndindex(*y.shape):  # four loops in one
        window = x[n, row * sh : row * sh + kh, column * sw : column * sw + kw, c]
        y[n, row, column, c] = window.max()
    return y


def max_pool2d_backward(dout, x, size, stride=None, padding=0):
    """Send each gradient to the first maximum of its window. dout: (N, Ho, Wo, C). Returns dx in the shape of x."""
    (kh, kw), (sh, sw), shape, x = _pair(size), _pair(stride or size), x.shape, _pad(x, padding, -np.inf)
    dx = np.zeros_like(x, dtype=dout.dtype)
    for n, row, column, c in np.ndindex(*dout.shape):
        window = x[n, row * sh : row * sh + kh, column * sw : column * sw + kw, c]
        i, j = np.unravel_index(window.argmax(), (kh, kw))  # argmax takes the first where several are equal
        dx[n, row * sh + i, column * sw + j, c] += dout[n, row, column, c]  # +=, for windows may overlap
    return _unpad(dx, shape, padding)


def avg_pool2d(x, size, stride=None, padding=0):
    """Return the mean of each window, (N, Ho, Wo, C), of x (N, H, W, C). The zeros of the padding are counted."""
    (kh, kw), (sh, sw), x = _pair(size), _pair(stride or size), _pad(x, padding)
    N, Ho, Wo = _positions(x, size, (sh, sw))
    y = np.zeros((N, Ho, Wo, x.shape[3]), x.dtype)
    for n, row, column, c in np.ndindex(*y.shape):
        y[n, row, column, c] = x[n, row * sh : row * sh + kh, column * sw : column * sw + kw, c].mean()
    return y


def avg_pool2d_backward(dout, x, size, stride=None, padding=0):
    """Share each gradient out over its window. dout: (N, Ho, Wo, C). Returns dx in the shape of x."""
    (kh, kw), (sh, sw), shape, x = _pair(size), _pair(stride or size), x.shape, _pad(x, padding)
    dx = np.zeros_like(x, dtype=dout.dtype)
    for n, row, column, c in np.ndindex(*dout.shape):
        dx[n, row * sh : row * sh + kh, column * sw : column * sw + kw, c] += dout[n, row, column, c] / (kh * kw)
    return _unpad(dx, shape, padding)


def im2col(x, kernel_size, stride=1, padding=0):
    """Lay out every patch of x (N, H, W, C) as one row. Returns (N*Ho*Wo, kh*kw*C)."""
    (kh, kw), (sh, sw), x = _pair(kernel_size), _pair(stride), _pad(x, padding)
    N, Ho, Wo = _positions(x, kernel_size, stride)
    rows = []
    for n in range(N):
        for row in range(Ho):
            for column in range(Wo):
                patch = x[n, row * sh : row * sh + kh, column * sw : column * sw + kw, :]
                rows.append(patch.reshape(-1))
    return np.stack(rows)


def col2im(rows, x_shape, kernel_size, stride=1, padding=0):
    """Add every row (kh*kw*C,) back to the pixels that `im2col` copied it from. Returns an array of shape x_shape."""
    (kh, kw), (sh, sw), x = _pair(kernel_size), _pair(stride), _pad(np.zeros(x_shape, rows.dtype), padding)
    N, Ho, Wo = _positions(x, kernel_size, stride)
    patches = iter(rows.reshape(-1, kh, kw, x_shape[3]))
    for n in range(N):
        for row in range(Ho):
            for column in range(Wo):
                x[n, row * sh : row * sh + kh, column * sw : column * sw + kw, :] += next(patches)
    return _unpad(x, x_shape, padding)


def rnn(x, h0, Wx, Wh, b):
    """Read the sequences x (N, T, D) from the states h0 (N, H). Returns every state h (N, T, H)."""
    (N, T, D), H = x.shape, len(b)
    h = np.zeros((N, T, H), x.dtype)
    for n in range(N):
        state = h0[n]
        for t in range(T):
            for j in range(H):
                total = b[j]
                for i in range(D):
                    total += x[n, t, i] * Wx[i, j]
                for k in range(H):
                    total += state[k] * Wh[k, j]
                h[n, t, j] = np.tanh(total)
            state = h[n, t]
    return h


def rnn_backward(dh, x, h0, h, Wx, Wh):
    """Run the same loops backward through time. dh: (N, T, H). Returns (dx, dh0, dWx, dWh, db)."""
    (N, T, D), H = x.shape, len(Wh)
    dx, dh0, dWx, dWh, db = (np.zeros_like(array) for array in (x, h0, Wx, Wh, Wh[0]))
    for n in range(N):
        carry = np.zeros(H, dh.dtype)
        for t in reversed(range(T)):
            before = h[n, t - 1] if t > 0 else h0[n]
            dstate, carry = dh[n, t] + carry, np.zeros(H, dh.dtype)
            for j in range(H):
                dz = dstate[j] * (1 - h[n, t, j] ** 2)
                db[j] += dz
                for i in range(D):
                    dx[n, t, i] += dz * Wx[i, j]
                    dWx[i, j] += dz * x[n, t, i]
                for k in range(H):
                    carry[k] += dz * Wh[k, j]
                    dWh[k, j] += dz * before[k]
        dh0[n] = carry
    return dx, dh0, dWx, dWh, db


def _pair(size):
    return size if isinstance(size, tuple) else (size, size)


def _pad(x, padding, value=0.0):
    ph, pw = _pair(padding)
    return np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)), constant_values=value)


def _unpad(x, shape, padding):
    ph, pw = _pair(padding)
    return x[:, ph : ph + shape[1], pw : pw + shape[2]]


def _positions(x, size, stride):
    """Return how many pictures there are, and how many positions of a window fit below and beside one another."""
    (kh, kw), (sh, sw) = _pair(size), _pair(stride)
    return len(x), (x.shape[1] - kh) // sh + 1, (x.shape[2] - kw) // sw + 1
