"""The whole nets against PyTorch: logits, loss and all gradients, same weights and batch.

PyTorch computes in float64, and so gives the true values. What fp32 may differ by, PyTorch itself
shows: it computes the same in fp32, and the error of the hand-written kernels must not be more than
a few times as large.

Where a ReLU's input is almost 0, or two values of a pooling window are almost equal, rounding
decides, and a gradient goes one way or the other. So PyTorch takes these decisions from us; that
each was a right one, or a close call, is checked too.
"""

from __future__ import annotations

import numpy as np
import pytest

from helpers import target
from helpers.kernels import ops
from helpers.target import DEVICE, download
from pyalexnet.model import Model
from pyalexnet.nn import zoo
from pyalexnet.nn.layers import LRN, Conv, Dropout, Linear, MaxPool

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional

BATCH = 4
SEED, STEP = 11, 7


def torch_lrn(layer, x):
    """PyTorch divides alpha by the window's size, and knows no groups."""
    parts = [
        F.local_response_norm(part, layer.size, layer.alpha * layer.size, layer.beta, layer.k)
        for part in x.chunk(layer.groups, dim=1)
    ]
    return torch.cat(parts, dim=1)


def torch_conv(layer, x, weight, bias):
    """The original's border: zeros at the right and bottom until the last window fits."""
    (size,) = set(x.shape[2:])
    windows = ops.output_size(size, layer.size, layer.stride, layer.pad, layer.ceil_mode)
    hang = (windows - 1) * layer.stride + layer.size - size - layer.pad
    x = F.pad(x, (layer.pad, max(hang, 0)) * 2)
    # (C/G, R, S, K) to PyTorch's (K, C/G, R, S)
    weight = weight.permute(3, 0, 1, 2)
    return F.conv2d(x, weight, bias, layer.stride, groups=layer.groups)


def dropout_masks(net):
    """What each of the net's dropout layers multiplies its (N, …) input by in this step."""
    masks = []
    for layer, shape in zip(net.layers, net.shapes(), strict=False):
        if isinstance(layer, Dropout):
            ones = np.ones((*shape, DEVICE.pad_images(BATCH)), np.float32)
            settings = {"p": layer.p, "seed": SEED, "step": STEP, "layer": len(masks)}
            mask = ops.dropout(ones, scale=1.0, **settings)
            scale = 1 / (1 - layer.p) if layer.inverted else 1.0
            masks.append(np.moveaxis(mask, -1, 0)[:BATCH] * scale)
    return masks


def decisions(net, model):
    """By layer name: where our ReLUs let pass (N, …), which pixel our pools took (N, C, P·Q)."""
    taken = {}
    for name, layer, own in zip(net.names, net.layers, model.parts[0].layers, strict=True):
        if isinstance(layer, Conv | Linear) and layer.activation == "relu":
            taken[name] = torch.tensor(np.moveaxis(download(own.y), -1, 0)[:BATCH] > 0)
        elif isinstance(layer, MaxPool):
            place = download(own.saved["argmax"]).astype(np.int64)
            place[place == 0xFFFF] = 0  # a window of zeros, whose gradient the ReLU stops
            row, column = np.divmod(place, layer.size)
            _, rows, columns, _ = own.saved["argmax"].shape
            row += np.arange(rows)[:, None, None] * layer.stride
            column += np.arange(columns)[:, None] * layer.stride
            pixel = row * own.x.shape[2] + column
            taken[name] = torch.tensor(np.moveaxis(pixel, -1, 0)[:BATCH]).flatten(2)
    return taken


def assert_close_call(differences, values):
    """What a decision of ours gave away is as little as rounding can have hidden."""
    assert differences.max() <= 1e-4 * values.std()


def relu(x, passes):
    """max(x, 0) with our decisions."""
    assert_close_call(torch.where(passes == (x > 0), 0, x.abs()).detach(), x)
    return torch.where(passes, x, 0)


def max_pool(layer, x, pixels):
    """Max pooling with our decisions."""
    largest = F.max_pool2d(x, layer.size, layer.stride)
    y = x.flatten(2).gather(2, pixels).view_as(largest)
    assert_close_call((largest - y).detach(), x)
    return y


def torch_step(net, state, x, labels, dtype, taken):
    """Logits, loss and gradients by PyTorch: x (N, C, H, W), state as `Model.state`."""
    tensors = {
        name: torch.tensor(value, dtype=dtype, requires_grad=True) for name, value in state.items()
    }
    masks = iter(dropout_masks(net))
    x = torch.tensor(x, dtype=dtype)
    for name, layer in zip(net.names, net.layers, strict=True):
        if isinstance(layer, Conv | Linear):
            weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
            if isinstance(layer, Conv):
                x = torch_conv(layer, x, weight, bias)
            else:
                x = x.flatten(1) @ weight + bias
            x = relu(x, taken[name]) if layer.activation else x
        elif isinstance(layer, LRN):
            x = torch_lrn(layer, x)
        elif isinstance(layer, MaxPool):
            x = max_pool(layer, x, taken[name])
        else:
            assert isinstance(layer, Dropout)
            x = x * torch.tensor(next(masks), dtype=dtype)
    loss = F.cross_entropy(x, torch.tensor(labels, dtype=torch.int64))
    loss.backward()
    values = {f"d {name}": tensor.grad.numpy() for name, tensor in tensors.items()}
    return values | {"logits": x.detach().numpy(), "loss": np.array(loss.item())}


def our_step(net, model, images, labels, crops):
    model.forward_backward(images, labels, crops, seed=SEED, step=STEP)
    values = {f"d {name}": gradient for name, gradient in model.gradients().items()}
    # In training the logits are dropped out; they lie in the last layer's buffer.
    logits = download(model.parts[0].layers[-1].y)[:, :BATCH].T
    return values | {"logits": logits, "loss": np.array(model.pop_metrics().loss)}


def error(value, truth):
    """Length of the difference, relative to the truth's."""
    return np.linalg.norm(value - truth) / np.linalg.norm(truth)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("make", [zoo.alexnet, zoo.alexnet_one_tower])
def test_logits_loss_and_all_gradients(make, algorithm, monkeypatch):
    monkeypatch.setenv("PYALEXNET_CONV", algorithm)
    net = make()
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (BATCH, 8, 8, 3), dtype=np.uint8)  # images are mostly smooth
    images = coarse.repeat(32, 1).repeat(32, 2) // 2
    images += rng.integers(0, 128, images.shape, dtype=np.uint8)
    labels = rng.integers(0, 1000, BATCH).astype(np.int32)
    crops = np.array([[0, 0, 0], [32, 32, 1], [5, 17, 1], [30, 2, 0]], np.int32)
    mean = np.full((256, 256, 3), 127.5, np.float32)

    model = Model(net, target.NAME, BATCH, seed=3)
    model.set_mean_image(mean)
    ours = our_step(net, model, images, labels, crops)
    state, taken = model.state(), decisions(net, model)
    del model
    x = np.empty((BATCH, 3, 224, 224))
    for image, (row, column, mirror) in enumerate(crops):
        crop = (images[image] - 127.5)[row : row + 224, column : column + 224]
        x[image] = (crop[:, ::-1] if mirror else crop).transpose(2, 0, 1)
    x *= np.array(net.normalization.scales(3))[:, None, None]

    truth = torch_step(net, state, x, labels, torch.float64, taken)
    peer = torch_step(net, state, x, labels, torch.float32, taken)
    assert truth.keys() == ours.keys()
    for name, value in truth.items():
        assert ours[name].shape == value.shape
        factor = 4 if algorithm == "direct" else 10
        limit = factor * error(peer[name], value) + 1e-6  # sums in another order
        assert error(ours[name], value) <= limit, f"{name}: PyTorch {error(peer[name], value):.1e}"
        assert limit < 1e-4, f"{name}: PyTorch's own error says nothing"
