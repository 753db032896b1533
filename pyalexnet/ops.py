"""The kernels as functions on arrays.

Every function runs on the device that holds its arrays, returns its results, and allocates those
that `out` does not give. Arrays are C-contiguous float32 unless said otherwise. The letters: N
images (a multiple of the device's `images_multiple`), C channels, H W rows and columns, K filters
or features, R S filter rows and columns, P Q output rows and columns, G groups; maps are
(C, H, W, N), filters (C/G, R, S, K), a fully connected layer's values (F, N). Results share no
memory with other arrays, unless a function says that `out` may be one. Wrong arguments raise
ValueError from the compiled modules, naming the argument, what it was and what was expected.

"The paper" is Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural
Networks, 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pyalexnet import device as devices
from pyalexnet.device import Array, Device, Shape


def output_size(size: int, window: int, stride: int, pad: int = 0, ceil_mode: bool = False) -> int:
    """Rows (or columns) of the output of a convolution or pooling over `size` rows.

    By default, windows that fit: 1 + floor((size + 2 pad - window) / stride). With `ceil_mode`, as
    in the paper's code, the last window may reach over the border: 224 rows under 11-row filters at
    stride 4 give 55. The result is below 1 when not one window fits. Raises ValueError for a stride
    below 1.
    """
    if stride < 1:
        raise ValueError(f"stride is {stride}; expected at least 1")
    span = size + 2 * pad - window
    return 1 + (-(-span // stride) if ceil_mode else span // stride)


def conv_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
    activation: str = "",
    ceil_mode: bool = False,
    algorithm: str = "",
    filters: Array | None = None,
    transformed: bool = False,
    images: int | None = None,
    workspace: Array | None = None,
    out: Array | None = None,
) -> Array:
    """Convolution, bias and activation: x (C, H, W, N), w (C/G, R, S, K), b (K) -> (K, P, Q, N).

    `activation` is "", "relu" or "tanh". Filters of group g see the g-th part of the channels.
    Pixels outside the image are zeros. `algorithm` is "direct", "winograd", or "", which chooses
    (see `conv_plan`). "winograd" transforms w into `filters`, or else into the workspace, where
    they are lost; with `transformed`, `filters` has them already, of a call with the same w, shapes
    and algorithm. The first `images` images are wanted, by default all N; others may be computed as
    if their x were zeros. `workspace` holds at least `conv_workspace` floats. Paper: sections 3.1,
    3.5.
    """
    at = devices.of(x)
    if out is None:
        _, height, width, extent = _shape("x", x, 4)
        _, *window, kernels = _shape("w", w, 4)
        rows = output_size(height, window[0], stride, pad, ceil_mode)
        columns = output_size(width, window[1], stride, pad, ceil_mode)
        out = at.empty((kernels, *_places(rows, columns, x, window), extent))
    how = _conv_options(stride, pad, groups, algorithm)
    if workspace is None and (filters is None or images is not None):
        workspace = _conv_workspace(at, 0, x.shape, w.shape, out.shape, how)
    at.kernels.conv_forward(
        out,
        x,
        w,
        b,
        activation=activation,
        filters=filters,
        transformed=transformed,
        images=images,
        workspace=workspace,
        **how,
    )
    return out


def conv_backward_data(
    dy: Array,
    w: Array,
    x_shape: Shape,
    *,
    mask: Array | None = None,
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
    algorithm: str = "",
    workspace: Array | None = None,
    out: Array | None = None,
) -> Array:
    """The input's gradient: dy (K, P, Q, N), w (C/G, R, S, K) -> dx of `x_shape` (C, H, W, N).

    Where the input x is a ReLU's output, `mask` may be x: the result is the gradient of the ReLU's
    input, 0 where x is not above 0. `algorithm` is as in `conv_forward`; `workspace` holds at least
    `conv_workspace` floats.
    """
    at = devices.of(dy)
    out = _or_empty(at, out, x_shape)
    how = _conv_options(stride, pad, groups, algorithm)
    if workspace is None:
        workspace = _conv_workspace(at, 1, out.shape, w.shape, dy.shape, how)
    at.kernels.conv_backward_data(out, dy, w, mask=mask, workspace=workspace, **how)
    return out


def conv_backward_weights(
    x: Array,
    dy: Array,
    w_shape: Shape,
    *,
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
    algorithm: str = "",
    workspace: Array | None = None,
    out: Array | None = None,
) -> Array:
    """The filters' gradient: x (C, H, W, N), dy (K, P, Q, N) -> dw of `w_shape` (C/G, R, S, K).

    `algorithm` is as in `conv_forward`; `workspace` holds at least `conv_workspace` floats.
    """
    at = devices.of(x)
    out = _or_empty(at, out, w_shape)
    how = _conv_options(stride, pad, groups, algorithm)
    if workspace is None:
        workspace = _conv_workspace(at, 2, x.shape, out.shape, dy.shape, how)
    at.kernels.conv_backward_weights(out, x, dy, workspace=workspace, **how)
    return out


class ConvPlan(NamedTuple):
    """How a convolution is computed."""

    algorithm: str  #: "direct" or "winograd", of all three passes
    filters: int  #: floats of the transformed filters; 0 for "direct", which reads w itself
    workspace: tuple[int, int, int]  #: floats for forward, data gradient, weight gradient


def conv_plan(
    at: Device,
    x_shape: Shape,
    w_shape: Shape,
    y_shape: Shape,
    *,
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
    algorithm: str = "",
) -> ConvPlan:
    """How the device `at` computes a convolution of these shapes, if `algorithm` is asked for.

    "direct" multiplies patches by filters. "winograd" transforms both, which takes 2.6 to 4.6 times
    fewer products; it is a CPU's, for 3×3 and 5×5 filters at stride 1. "" takes the faster one by
    the shapes, unless the environment's PYALEXNET_CONV names the other. Winograd's results are less
    exact (docs/winograd.md), and an infinity or a NaN spreads over a tile of 4×4 outputs.
    """
    how = _conv_options(stride, pad, groups, algorithm)
    name, filters, floats = at.kernels.conv_plan(x_shape, w_shape, y_shape, **how)
    forward, data, weights = floats
    return ConvPlan(name, filters, (forward, data, weights))


def conv_workspace(
    at: Device,
    x_shape: Shape,
    w_shape: Shape,
    y_shape: Shape,
    *,
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
    algorithm: str = "",
) -> int:
    """Floats of workspace that a convolution needs on the device `at`, forward and backward.

    Sums that are computed in parts lie there, and transformed filters; 0 where there are none.
    """
    how = _conv_options(stride, pad, groups, algorithm)
    return max(conv_plan(at, x_shape, w_shape, y_shape, **how).workspace)


def linear_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    activation: str = "",
    images: int | None = None,
    workspace: Array | None = None,
    out: Array | None = None,
) -> Array:
    """A fully connected layer: x (F, N), w (F, K), b (K) -> activation(wᵀx + b) (K, N).

    `images` is as in `conv_forward`: up to 4 take a CPU the time to read w. `workspace` holds at
    least `linear_workspace` floats.
    """
    at = devices.of(x)
    out = _or_empty(at, out, (_shape("w", w, 2)[1], _shape("x", x, 2)[1]))
    maps = _as_map(x), _as_map(w)
    how: dict[str, Any] = {"activation": activation, "images": images, "workspace": workspace}
    conv_forward(*maps, b, out=_as_map(out), **how)
    return out


def linear_backward_data(
    dy: Array,
    w: Array,
    *,
    mask: Array | None = None,
    workspace: Array | None = None,
    out: Array | None = None,
) -> Array:
    """The input's gradient: dy (K, N), w (F, K) -> dx (F, N).

    `mask` (F, N) is as in `conv_backward_data`; `workspace` holds at least `linear_workspace`
    floats.
    """
    at = devices.of(dy)
    out = _or_empty(at, out, (_shape("w", w, 2)[0], _shape("dy", dy, 2)[1]))
    dx, of_x = _as_map(out), None if mask is None else _as_map(mask)
    conv_backward_data(_as_map(dy), _as_map(w), dx.shape, mask=of_x, workspace=workspace, out=dx)
    return out


def linear_backward_weights(
    x: Array, dy: Array, *, workspace: Array | None = None, out: Array | None = None
) -> Array:
    """The weights' gradient: x (F, N), dy (K, N) -> dw (F, K).

    `workspace` holds at least `linear_workspace` floats.
    """
    at = devices.of(x)
    out = _or_empty(at, out, (_shape("x", x, 2)[0], _shape("dy", dy, 2)[0]))
    dw = _as_map(out)
    conv_backward_weights(_as_map(x), _as_map(dy), dw.shape, workspace=workspace, out=dw)
    return out


def linear_workspace(at: Device, x_shape: Shape, y_shape: Shape) -> int:
    """As `conv_workspace`, of a fully connected layer: x (F, N), y (K, N)."""
    (features, images), outputs = x_shape, y_shape[0]
    return conv_workspace(
        at, (features, 1, 1, images), (features, 1, 1, outputs), (outputs, 1, 1, images)
    )


def bias_backward(dy: Array, *, out: Array | None = None) -> Array:
    """The biases' gradient: dy (K, ..., N) -> its sum over all axes but the first, (K)."""
    at = devices.of(dy)
    out = _or_empty(at, out, dy.shape[:1])
    at.kernels.bias_backward(out, dy)
    return out


def activation_forward(x: Array, kind: str, *, out: Array | None = None) -> Array:
    """`kind` "relu": max(x, 0); "tanh": tanh(x). Any shape; `out` may be x. Paper: section 3.1."""
    at = devices.of(x)
    out = _or_empty(at, out, x.shape)
    at.kernels.activation_forward(out, x, kind=kind)
    return out


def activation_backward(dy: Array, y: Array, kind: str, *, out: Array | None = None) -> Array:
    """dx from the activation's output y: dy where y > 0, or dy (1 - y²). `out` may be dy."""
    at = devices.of(dy)
    out = _or_empty(at, out, dy.shape)
    at.kernels.activation_backward(out, dy, y, kind=kind)
    return out


def lrn_forward(
    x: Array,
    *,
    size: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    groups: int = 1,
    out: Array | None = None,
) -> Array:
    """Local response normalisation of x (C, H, W, N): x_i / (k + alpha Σ x_j²)^beta.

    The sum is over the `size` (odd) maps around map i that are in its group of C/G; alpha is not
    divided by `size`. Paper: section 3.3.
    """
    at = devices.of(x)
    out = _or_empty(at, out, x.shape)
    at.kernels.lrn_forward(out, x, size=size, k=k, alpha=alpha, beta=beta, groups=groups)
    return out


def lrn_backward(
    dy: Array,
    x: Array,
    *,
    size: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    groups: int = 1,
    masked: bool = False,
    out: Array | None = None,
) -> Array:
    """The gradient of `lrn_forward`'s input x, from its output's, dy; both (C, H, W, N).

    Where x is a ReLU's output, `masked` gives the gradient of the ReLU's input: 0 where x is not
    above 0.
    """
    at = devices.of(dy)
    out = _or_empty(at, out, x.shape)
    at.kernels.lrn_backward(
        out, dy, x, size=size, k=k, alpha=alpha, beta=beta, groups=groups, masked=masked
    )
    return out


def maxpool_forward(
    x: Array,
    *,
    size: int,
    stride: int,
    pad: int = 0,
    ceil_mode: bool = False,
    masked: bool = False,
    out: Array | None = None,
    argmax: Array | None = None,
) -> tuple[Array, Array]:
    """The largest value of each window of `size`² pixels: x (C, H, W, N) -> y, argmax (C, P, Q, N).

    `argmax` (uint16) is the place in the window, row · size + column, of the first largest value.
    Windows are clipped at the image's borders. Where x is a ReLU's output, `masked` makes it 65535,
    which is nowhere, for values not above 0: `maxpool_backward` then gives the gradient of the
    ReLU's input. Paper: section 3.4.
    """
    at = devices.of(x)
    if out is None:
        channels, height, width, images = _shape("x", x, 4)
        rows = output_size(height, size, stride, pad, ceil_mode)
        columns = output_size(width, size, stride, pad, ceil_mode)
        out = at.empty((channels, *_places(rows, columns, x, [size, size]), images))
    if argmax is None:
        argmax = at.empty(out.shape, np.uint16)
    how = {"size": size, "stride": stride, "pad": pad}
    at.kernels.maxpool_forward(out, argmax, x, masked=masked, **how)
    return out, argmax


def maxpool_backward(
    dy: Array,
    argmax: Array,
    x_shape: Shape,
    *,
    size: int,
    stride: int,
    pad: int = 0,
    out: Array | None = None,
) -> Array:
    """The input's gradient: each dy (C, P, Q, N) goes to its window's maximum, in `x_shape`."""
    at = devices.of(dy)
    out = _or_empty(at, out, x_shape)
    at.kernels.maxpool_backward(out, dy, argmax, size=size, stride=stride, pad=pad)
    return out


def dropout(
    x: Array,
    *,
    p: float,
    scale: float,
    seed: int,
    layer: int,
    step: int,
    first_feature: int = 0,
    first_image: int = 0,
    mask: Array | None = None,
    out: Array | None = None,
) -> Array:
    """Keeps each element of x (..., N) with probability 1 - p, times `scale`; the others become 0.

    The same call on dy is the gradient: what is kept is a function (Philox4x32-10) of `seed`,
    `layer`, `step` and the numbers of feature and image, counted from `first_feature` and
    `first_image`. Where `mask`, of x's shape, is not above 0, the result is 0, too: a ReLU's output
    as the mask of a gradient gives that of the ReLU's input. `out` may be x. Paper: section 4.2.
    """
    at = devices.of(x)
    out = _or_empty(at, out, x.shape)
    at.kernels.dropout(
        out,
        x,
        mask=mask,
        p=p,
        scale=scale,
        seed=seed,
        layer=layer,
        step=step,
        first_feature=first_feature,
        first_image=first_image,
    )
    return out


def add(a: Array, b: Array, *, out: Array | None = None) -> Array:
    """a + b, of equal shape; `out` may be one of them."""
    at = devices.of(a)
    out = _or_empty(at, out, a.shape)
    at.kernels.add(out, a, b)
    return out


class Loss(NamedTuple):
    """What `softmax_cross_entropy` computes of each image."""

    probabilities: Array | None  #: (K, N)
    dlogits: Array | None  #: (K, N)
    losses: Array  #: (N), -log of the label's probability, 0 for label -1
    ranks: Array  #: (N) int32, how many classes beat the label's; -1 for label -1


def softmax_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    k: int = 5,
    scale: float = 1.0,
    totals: Array | None = None,
    out: Loss | None = None,
) -> Loss:
    """Softmax over the K classes of logits (K, N), cross-entropy against labels (N, int32).

    An image with label -1 (padding, or skipped) counts nowhere and its gradient is 0. dlogits is
    scale · (probabilities - one-hot). Adds to `totals` (4, float64) the sum of losses, the number
    of images whose label ranks first, and among the first `k`, and the number of images. What
    `out` holds None for is not computed.
    """
    at = devices.of(logits)
    if out is None:
        images = logits.shape[1:]
        out = Loss(
            at.empty(logits.shape),
            at.empty(logits.shape),
            at.empty(images),
            at.empty(images, np.int32),
        )
    at.kernels.softmax_cross_entropy(*out, totals, logits, labels, k=k, scale=scale)
    return out


def sgd(
    weights: Array,
    gradients: Array,
    momenta: Array,
    starts: Array,
    rates: Array,
    decays: Array,
    *,
    momentum: float,
) -> None:
    """One step of all parameters: v ← momentum v - decay rate w - rate g; w ← w + v, in place.

    `weights`, `gradients` and `momenta` are flat (T); segment s, from starts[s] to starts[s+1]
    (int64 (S+1), multiples of 64), has rates[s] and decays[s] (S). Paper: section 5.
    """
    at = devices.of(weights)
    at.kernels.sgd(weights, gradients, momenta, starts, rates, decays, momentum=momentum)


def augment(
    images: Array,
    crops: Array,
    mean: Array,
    scale: Array,
    shifts: Array | None = None,
    *,
    size: tuple[int, int],
    out: Array | None = None,
) -> Array:
    """Crops of images as a net's input: (image - mean + shift) · scale, turned to (C, h, w, N).

    `images` are uint8 (B, H, W, C), `crops` int32 (B, 3): first row, first column, and 1 to mirror;
    `mean` is (H, W, C), `scale` (C), `size` (h, w); `shifts` (B, C), colour noise, are zeros where
    they are None. What lies outside an image is 0, and so are the images from B to N. Paper:
    sections 2, 4.1.
    """
    at = devices.of(images)
    _shape("images", images, 4)
    out = _or_empty(at, out, (images.shape[3], *size, at.pad_images(images.shape[0])))
    at.kernels.augment(out, images, crops, mean, scale, shifts)
    return out


def _shape(name: str, array: Array, rank: int) -> Shape:
    """The array's shape; ValueError unless it has so many dimensions."""
    if len(array.shape) != rank:
        raise ValueError(f"{name} has shape {array.shape}; expected {rank} dimensions")
    return array.shape


def _places(rows: int, columns: int, x: Array, window: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of an output; ValueError unless a window fits into x."""
    if rows < 1 or columns < 1:
        raise ValueError(
            f"x has shape {x.shape}; expected at least the window's {window[0]} x {window[1]} "
            "pixels, with padding"
        )
    return rows, columns


def _or_empty(at: Device, out: Array | None, shape: Shape) -> Array:
    return at.empty(shape) if out is None else out


def _conv_options(stride: int, pad: int, groups: int, algorithm: str) -> dict[str, Any]:
    """What the kernels of a convolution's passes, and its plan, are told beside shapes."""
    return {"stride": stride, "pad": pad, "groups": groups, "algorithm": algorithm}


def _conv_workspace(
    at: Device, product: int, x: Shape, w: Shape, y: Shape, how: dict[str, Any]
) -> Array | None:
    """What the `product`-th of the three products needs: forward, data and weight gradient."""
    floats = conv_plan(at, x, w, y, **how).workspace[product]
    return at.empty((floats,)) if floats else None


def _as_map(array: Array) -> Array:
    """(F, N) as one-pixel maps (F, 1, 1, N), the same memory; also (F, K) as one-pixel filters."""
    rows, columns = _shape("array", array, 2)
    return array.reshape((rows, 1, 1, columns))
