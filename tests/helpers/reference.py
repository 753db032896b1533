"""Reference implementations of all kernels in NumPy.

Functions compute in the dtype of their arrays. float64 gives the reference. float32 adds the terms
of a sum one by one and so has the error of plain float32 arithmetic, to which the kernels' errors
are compared. Letters and layouts are those of `pyalexnet.ops`; the caller gives an output's size
(P, Q).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np


def _add_product(total: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """total (M, ...) += a (M, T) · b (T, ...); in float32 term by term."""
    if total.dtype == np.float64:
        total += np.tensordot(a, b, axes=1)
        return
    for row, factors in zip(total, a, strict=True):
        terms = factors.reshape(-1, *[1] * (b.ndim - 1)) * b
        row[...] = np.add.accumulate(np.concatenate([row[None], terms]))[-1]


# Convolution


def _along(size: int, out: int, stride: int, pad: int, tap: int) -> tuple[slice, slice]:
    """The inputs that tap `tap` reads along one axis, and the outputs for which it does."""
    first = max(0, -((tap - pad) // stride))
    last = min(out - 1, (size - 1 + pad - tap) // stride)
    if last < first:
        return slice(0), slice(0)
    start, stop = first * stride - pad + tap, last * stride - pad + tap + 1
    return slice(start, stop, stride), slice(first, last + 1)


class _Step(NamedTuple):
    """The indices of x, w and y that one tap of one group's filters uses."""

    x: tuple[slice, ...]
    w: tuple[slice | int, ...]
    y: tuple[slice, ...]


def _steps(
    x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], stride: int, pad: int, groups: int
) -> Iterator[_Step]:
    """Group by group, the taps that touch the image, for arrays of these shapes."""
    channels, rows, columns, filters = w[0], w[1], w[2], w[3] // groups
    for g in range(groups):
        of_x = slice(g * channels, (g + 1) * channels)
        of_y = slice(g * filters, (g + 1) * filters)
        for r in range(rows):
            h, p = _along(x[1], y[1], stride, pad, r)
            for s in range(columns):
                v, q = _along(x[2], y[2], stride, pad, s)
                if p.stop and q.stop:
                    yield _Step((of_x, h, v), (slice(None), r, s, of_y), (of_y, p, q))


def conv_forward(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    out: tuple[int, int],
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
) -> np.ndarray:
    """x (C, H, W, N), w (C/G, R, S, K), b (K) -> y (K, P, Q, N) with (P, Q) = `out`."""
    y = np.zeros((w.shape[3], *out, x.shape[3]), x.dtype)
    for at in _steps(x.shape, w.shape, y.shape, stride, pad, groups):
        _add_product(y[at.y], w[at.w].T, x[at.x])
    return y if b is None else y + b[:, None, None, None]


def conv_backward_data(
    dy: np.ndarray,
    w: np.ndarray,
    x_shape: tuple[int, ...],
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
) -> np.ndarray:
    """dy (K, P, Q, N), w (C/G, R, S, K) -> dx of `x_shape`."""
    dx = np.zeros(x_shape, dy.dtype)
    for at in _steps(x_shape, w.shape, dy.shape, stride, pad, groups):
        _add_product(dx[at.x], w[at.w], dy[at.y])
    return dx


def conv_backward_weights(
    x: np.ndarray,
    dy: np.ndarray,
    w_shape: tuple[int, ...],
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
) -> np.ndarray:
    """x (C, H, W, N), dy (K, P, Q, N) -> dw of `w_shape`."""
    dw = np.zeros(w_shape, x.dtype)
    for at in _steps(x.shape, w_shape, dy.shape, stride, pad, groups):
        patches, gradients = x[at.x], dy[at.y]
        terms = patches[0].size
        _add_product(dw[at.w], patches.reshape(len(patches), terms), gradients.reshape(-1, terms).T)
    return dw


def linear_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    """x (F, N), w (F, K), b (K) -> (K, N)."""
    y = np.zeros((w.shape[1], x.shape[1]), x.dtype)
    _add_product(y, w.T, x)
    return y if b is None else y + b[:, None]


def linear_backward_data(dy: np.ndarray, w: np.ndarray) -> np.ndarray:
    """dy (K, N), w (F, K) -> dx (F, N)."""
    dx = np.zeros((w.shape[0], dy.shape[1]), dy.dtype)
    _add_product(dx, w, dy)
    return dx


def linear_backward_weights(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """x (F, N), dy (K, N) -> dw (F, K)."""
    dw = np.zeros((len(x), len(dy)), x.dtype)
    _add_product(dw, x, dy.T)
    return dw


def bias_backward(dy: np.ndarray) -> np.ndarray:
    """dy (K, ..., N) -> (K)."""
    return np.add.accumulate(dy.reshape(len(dy), -1), axis=1)[:, -1]


# Activations


def activation_forward(x: np.ndarray, kind: str) -> np.ndarray:
    """Of x, any shape; `kind` is "relu", "tanh" or, for no activation, empty."""
    return {"": np.array, "relu": lambda v: np.maximum(v, 0), "tanh": np.tanh}[kind](x)


def activation_backward(dy: np.ndarray, y: np.ndarray, kind: str) -> np.ndarray:
    """dx from the activation's output y."""
    return dy * (y > 0) if kind == "relu" else dy * (1 - y * y)


# Local response normalisation


def _window_sums(maps: np.ndarray, size: int, groups: int) -> np.ndarray:
    """Sums over the `size` channels around each one that are in its group."""
    channels = len(maps) // groups
    sums = np.zeros_like(maps)
    for i in range(len(maps)):
        group = i // channels * channels
        first, last = max(group, i - size // 2), min(group + channels - 1, i + size // 2)
        for j in range(first, last + 1):
            sums[i] += maps[j]
    return sums


def lrn_forward(
    x: np.ndarray,
    size: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    groups: int = 1,
) -> np.ndarray:
    """x_i s_i^-beta with s_i = k + alpha Σ x_j²; x (C, H, W, N)."""
    s = k + alpha * _window_sums(x * x, size, groups)
    return x * s**-beta


def lrn_backward(
    dy: np.ndarray,
    x: np.ndarray,
    size: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    groups: int = 1,
) -> np.ndarray:
    """dy_i s_i^-beta - 2 alpha beta x_i Σ dy_j x_j s_j^(-beta-1)."""
    s = k + alpha * _window_sums(x * x, size, groups)
    through_window = _window_sums(dy * x * s ** (-beta - 1), size, groups)
    return dy * s**-beta - 2 * alpha * beta * x * through_window


# Max pooling


def maxpool_forward(
    x: np.ndarray, out: tuple[int, int], size: int, stride: int, pad: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """x (C, H, W, N) -> y, argmax (C, P, Q, N): each window's first maximum; NaN is largest."""
    channels, height, width, images = x.shape
    y = np.empty((channels, *out, images), x.dtype)
    argmax = np.empty(y.shape, np.uint16)
    for p, q in np.ndindex(*out):
        top, left = p * stride - pad, q * stride - pad
        rows = np.arange(max(top, 0), min(top + size, height))
        columns = np.arange(max(left, 0), min(left + size, width))
        window = x[:, rows][:, :, columns].reshape(channels, -1, images)
        places = ((rows[:, None] - top) * size + columns - left).reshape(-1)
        first = np.argmax(window, axis=1)
        argmax[:, p, q] = places[first]
        y[:, p, q] = np.take_along_axis(window, first[:, None], axis=1)[:, 0]
    return y, argmax


def maxpool_backward(
    dy: np.ndarray,
    argmax: np.ndarray,
    x_shape: tuple[int, ...],
    size: int,
    stride: int,
    pad: int = 0,
) -> np.ndarray:
    """Each dy goes to where its window's maximum was."""
    dx = np.zeros(x_shape, dy.dtype)
    c, p, q, n = np.indices(dy.shape)
    r, s = np.divmod(argmax.astype(int), size)
    np.add.at(dx, (c, p * stride - pad + r, q * stride - pad + s, n), dy)
    return dx


# Dropout


def philox4x32(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Philox4x32-10 of Salmon et al. (2011): counter (4, ...), key (2, ...) -> words (4, ...)."""
    c = np.asarray(counter, np.uint64)
    k = np.asarray(key, np.uint64)
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    bump = np.array([0x9E3779B9, 0xBB67AE85], np.uint64).reshape(2, *[1] * (k.ndim - 1))
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = np.stack([(b >> half) ^ c[1] ^ k[0], b & low, (a >> half) ^ c[3] ^ k[1], a & low])
        k = (k + bump) & low
    return c.astype(np.uint32)


def dropout_mask(
    shape: tuple[int, int], p: float, seed: int, layer: int, step: int, first_image: int = 0
) -> np.ndarray:
    """Which elements of (F, N) dropout keeps."""
    f, n = np.indices(shape)
    counter = np.stack(
        [first_image + n, f // 4, np.full(shape, step & 0xFFFFFFFF), np.full(shape, layer)]
    )
    words = philox4x32(counter, np.array([seed & 0xFFFFFFFF, seed >> 32]))
    return np.take_along_axis(words, (f % 4)[None], axis=0)[0] >= p * 2.0**32


# Softmax and cross-entropy


class Loss(NamedTuple):
    """As `pyalexnet.ops.Loss`, and what is added to the totals."""

    probabilities: np.ndarray
    dlogits: np.ndarray
    losses: np.ndarray
    ranks: np.ndarray
    totals: np.ndarray


def softmax_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, k: int = 5, scale: float = 1.0
) -> Loss:
    """logits (K, N), labels (N), -1 for an image that counts nowhere."""
    shifted = logits - logits.max(axis=0)
    exponentials = np.exp(shifted)
    total = np.add.accumulate(exponentials)[-1]
    probabilities = exponentials / total
    classes, images = np.arange(len(logits))[:, None], np.arange(logits.shape[1])
    counted = labels >= 0
    label = np.where(counted, labels, 0)
    losses = np.where(counted, np.log(total) - shifted[label, images], 0)
    own = logits[label, images]
    beaten = ((logits > own) | ((logits == own) & (classes < label))).sum(axis=0)
    ranks = np.where(counted, np.where(np.isfinite(losses), beaten, len(logits)), -1)
    dlogits = np.where(counted, logits.dtype.type(scale) * (probabilities - (classes == label)), 0)
    totals = [losses.sum(dtype=np.float64)]
    totals += [np.count_nonzero(counted & (ranks < n)) for n in (1, k)] + [counted.sum()]
    return Loss(probabilities, dlogits, losses, ranks.astype(np.int32), np.array(totals, float))


# Descent


def sgd(
    weights: np.ndarray,
    gradients: np.ndarray,
    momenta: np.ndarray,
    starts: np.ndarray,
    rates: np.ndarray,
    decays: np.ndarray,
    momentum: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The new weights and momenta."""
    lengths = np.diff(starts)
    rate, decay = (np.repeat(v.astype(weights.dtype), lengths) for v in (rates, decays))
    v = momentum * momenta - decay * rate * weights - rate * gradients
    return weights + v, v


# Input


def augment(
    images: np.ndarray,
    crops: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    size: tuple[int, int],
    shifts: np.ndarray | None = None,
) -> np.ndarray:
    """images (B, H, W, C) uint8, crops (B, 3), mean (H, W, C), scale (C) -> (C, *size, B).

    `shifts` (B, C) are added to each pixel inside an image.
    """
    count, height, width, channels = images.shape
    x = np.zeros((channels, *size, count), mean.dtype)
    for n, (row, column, mirror) in enumerate(crops.tolist()):
        for i, j in np.ndindex(*size):
            r, q = row + i, column + (size[1] - 1 - j if mirror else j)
            if 0 <= r < height and 0 <= q < width:
                shift = 0 if shifts is None else shifts[n]
                x[:, i, j, n] = (images[n, r, q] - mean[r, q] + shift) * scale
    return x


def central_differences(f: Callable[[np.ndarray], float], x: np.ndarray, step: float) -> np.ndarray:
    """The gradient of the number f(x) by steps of `step` either way, in each element of x."""
    gradient = np.empty(x.shape)
    for i in np.ndindex(*x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[i] += step
        behind[i] -= step
        gradient[i] = (f(ahead) - f(behind)) / (float(ahead[i]) - float(behind[i]))
    return gradient
