"""A net, or one tower of a net split in two, on one device: its arrays, and its layers at work."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pyalexnet import ops
from pyalexnet.device import Array, Device, Event, HostArray, Shape
from pyalexnet.layers import Dropout, Exchange, Pass, Slot
from pyalexnet.nets import Net

_ALIGN = 64  # floats: the segments that ops.sgd takes begin at multiples of this


class Arena:
    """Tensors one behind the other in one flat array, so that one launch updates them all.

    ``arena["conv1.weight"]`` is a view in the tensor's own shape. Gaps between tensors are zeros.

    Attributes
    ----------
    flat : float32 array of the device
    names : the tensors' names, in order
    starts : int64 (len(names) + 1), where each tensor starts in `flat`, multiples of 64; then the
        length of `flat`
    """

    def __init__(self, at: Device, shapes: Mapping[str, Shape]) -> None:
        self.names = tuple(shapes)
        lengths = [-(-math.prod(shape) // _ALIGN) * _ALIGN for shape in shapes.values()]
        self.starts = np.cumsum([0, *lengths], dtype=np.int64)
        self.flat = at.zeros((int(self.starts[-1]),))
        self._views: dict[str, Array] = {}
        for start, (name, shape) in zip(self.starts, shapes.items(), strict=False):
            end = int(start) + math.prod(shape)
            self._views[name] = self.flat[int(start) : end].reshape(shape)

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def items(self) -> Iterator[tuple[str, Array]]:
        """Names and views, in order."""
        return iter(self._views.items())


class Tower:
    """A net on a device, or one of the two that `nets.towers` makes of a net.

    Everything is allocated when it is made; a step allocates nothing.

    Attributes
    ----------
    net, device : as given
    images : int
        Images in an array, a multiple of the device's `images_multiple`.
    weights, gradients, momenta : Arena
        Of equal layout.
    slots : list of Slot
        A layer's buffers each.
    """

    def __init__(self, net: Net, device: Device, batch: int, number: int = 0) -> None:
        self.net, self.device, self.images = net, device, device.pad_images(batch)
        shapes = {name: parameter.shape for name, parameter in net.parameters().items()}
        self.weights = Arena(device, shapes)
        self.gradients = Arena(device, shapes)
        self.momenta = Arena(device, shapes)
        self.slots = self._allocate_slots(number)
        self._scale = device.upload(np.array(net.scales, np.float32))
        self._mean: Array | None = None
        self._crops = device.zeros((batch, 3), np.int32)
        self._shifts = device.zeros((batch, net.input[0]))
        self._stored: Array | None = None  # comes with the first batch, whose images' size it has
        self._zero_mean: Array | None = None
        self._uploaded: Event = None

    def _allocate_slots(self, number: int) -> list[Slot]:
        """A slot for each layer: activations of its own, gradients in two buffers by turns."""
        at, net = self.device, self.net
        shapes = [(*shape, self.images) for shape in net.shapes()]
        values = self._allocate_values(shapes, number)
        sizes = [math.prod(shape) for shape in shapes]
        turns = at.empty((max(sizes[2::2], default=0),)), at.empty((max(sizes[1::2]),))
        gradients = [
            turns[i % 2][:size].reshape(shape)
            for i, (size, shape) in enumerate(zip(sizes, shapes, strict=True))
            if i > 0
        ]
        floats = max(
            layer.workspace(at, shape, self.images)
            for layer, shape in zip(net.layers, net.shapes(), strict=False)
        )
        workspace = at.empty((floats,)) if floats else None
        slots: list[Slot] = []
        dx: Array | None = None  # stays None up to the first layer with parameters
        dropouts = 0
        for i, (name, parameters) in enumerate(net.layer_parameters()):
            layer = net.layers[i]
            kept = layer.kept(net.shapes()[i])
            dy = gradients[i] if parameters or dx is not None else None
            slots.append(
                Slot(
                    device=at,
                    x=values[i],
                    y=values[i + 1],
                    dx=dx,
                    dy=dy,
                    parameters={kind: self.weights[f"{name}.{kind}"] for kind in parameters},
                    gradients={kind: self.gradients[f"{name}.{kind}"] for kind in parameters},
                    kept=at.empty((*kept, self.images), np.uint16) if kept else None,
                    workspace=workspace,
                    dropout=dropouts,
                    tower=number,
                    received=at.empty(shapes[i]) if layer == Exchange() else None,
                )
            )
            dx = dy
            dropouts += isinstance(layer, Dropout)
        return slots

    def _allocate_values(self, shapes: Sequence[Shape], number: int) -> list[Array]:
        """The input, then every layer's output. What an exchange reads is part of its output."""
        values = [self.device.empty(shapes[-1])]
        for layer, shape in zip(reversed(self.net.layers), reversed(shapes[:-1]), strict=True):
            if isinstance(layer, Exchange):
                values.append(layer.part(values[-1], number))
            else:
                values.append(self.device.empty(shape))
        return values[::-1]

    def set_mean(self, mean: npt.NDArray[np.float32]) -> None:
        """Sets the mean (H, W, C) of stored images, which is subtracted; at first it is zero."""
        self._mean = self.device.upload(mean)

    def load(self, images: HostArray, crops: HostArray, shifts: HostArray | None = None) -> None:
        """Makes the net's input of uint8 images (B, H, W, C), crops (B, 3) and shifts (B, C)."""
        at, stored = self.device, images.shape[1:]
        if self._stored is None or self._stored.shape[1:] != stored:
            self._stored = at.empty((self._crops.shape[0], *stored), np.uint8)
            self._zero_mean = at.zeros(stored)
        mean = self._zero_mean if self._mean is None else self._mean
        assert mean is not None
        pixels = at.place(images, self._stored)
        # A pinned batch may be overwritten once the next one is here.
        if self._uploaded is not None:
            at.wait(self._uploaded)
        self._uploaded = at.mark()
        at.copy_in(self._crops[: len(crops)], crops)
        if shifts is not None:
            at.copy_in(self._shifts[: len(shifts)], shifts)
        ops.augment(
            pixels,
            self._crops[: len(crops)],
            mean,
            self._scale,
            None if shifts is None else self._shifts[: len(shifts)],
            size=self.net.input[1:],
            out=self.slots[0].x,
        )

    def forward(self, layer: int, run: Pass) -> None:
        """Has the layer of this number compute its output, if the tower has it."""
        if layer < len(self.slots):
            self.net.layers[layer].forward(self.slots[layer], run)

    def backward(self, layer: int, run: Pass) -> None:
        """Has the layer of this number compute its gradients, if the tower has it."""
        if layer < len(self.slots) and self.slots[layer].dy is not None:
            self.net.layers[layer].backward(self.slots[layer], run)

    def parameter_bytes(self) -> int:
        """Bytes of weights, gradients and momenta."""
        return sum(arena.flat.nbytes for arena in (self.weights, self.gradients, self.momenta))

    def activation_bytes(self) -> list[int]:
        """Bytes that each layer keeps from its forward to its backward pass."""
        counts = []
        for layer, slot in zip(self.net.layers, self.slots, strict=True):
            own = slot.y.nbytes - (slot.x.nbytes if isinstance(layer, Exchange) else 0)
            kept = (slot.kept, slot.received)
            counts.append(own + sum(array.nbytes for array in kept if array is not None))
        return counts


def connect(first: Tower, second: Tower) -> None:
    """Makes each of two towers the other's peer, so that their exchanges find each other."""
    for one, other in ((first, second), (second, first)):
        for slot, peer in zip(one.slots, other.slots, strict=False):
            slot.peer = peer
        for layer, slot, above in zip(one.net.layers, one.slots, one.slots[1:], strict=False):
            if isinstance(layer, Exchange):
                above.after_dx = functools.partial(_mark, slot)


def _mark(exchange: Slot) -> None:
    """The exchange's dy has been queued: what is queued from now on need not be waited for."""
    exchange.dy_ready = exchange.device.mark()
