"""A net, or one of its two towers, on one device: its arrays, and its layers' passes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pyalexnet import ops
from pyalexnet.device import Array, Device, Shape
from pyalexnet.errors import NetError
from pyalexnet.nn.arena import Arena, Lifetime, plan_buffers
from pyalexnet.nn.layers import LayerBuffers, LossBuffers, StepContext
from pyalexnet.nn.net import Net
from pyalexnet.nn.pixel_input import PixelInput


class DeviceNet:
    """A net on a device.

    Everything is allocated by the constructor; a step allocates nothing. Each layer has its own
    output, which stays until the backward pass. Gradients share buffers: see `plan_buffers`.

    Attributes
    ----------
    net, device : as given
    images : int
        Images in an array, a multiple of the device's `images_multiple`.
    weights, gradients : Arena
        Of equal layout.
    buffers : dict of str to Array
        What `Net.buffers` names.
    layers : list of LayerBuffers
    input : PixelInput
    loss : LossBuffers or None
        None where another device has the logits.
    """

    def __init__(self, net: Net, device: Device, batch_size: int) -> None:
        self.net, self.device, self.images = net, device, device.pad_images(batch_size)
        self.weights = Arena(device, {name: p.shape for name, p in net.parameters().items()})
        self.gradients = self.weights.like()
        self.buffers = {
            name: device.upload(np.full(spec.shape, spec.value, spec.dtype))
            for name, spec in net.buffers().items()
        }
        values, in_place = self._allocate_values()
        gradients = _Gradients(net, device, self.images)
        self._sums = gradients.sums
        self._completes = _completes(net)
        self.layers = self._allocate_layers(values, in_place, gradients)
        self.input = PixelInput(net, device, batch_size, values[0])
        last = self.layers[-1]
        self.loss = LossBuffers(device, last.y, last.dy) if net.has_loss else None

    def _allocate_values(self) -> tuple[list[Array], list[list[bool]]]:
        """The input and every layer's output; for each layer, which inputs lie in its output."""
        net = self.net
        shapes = [(*shape, self.images) for shape in net.shapes()]
        values: list[Array | None] = [None] * len(shapes)
        in_place: list[list[bool]] = [[]] * len(net.layers)
        # From the last layer on, as an output may have to lie within that of a layer above.
        for i in reversed(range(len(net.layers))):
            y = values[i + 1]
            if y is None:
                y = values[i + 1] = self.device.empty(shapes[i + 1])
            sources = net.sources[i]
            views = net.layers[i].input_views(y, *(shapes[source] for source in sources))
            in_place[i] = []
            for source, view in zip(sources, views, strict=True):
                free = view is not None and source > 0 and values[source] is None
                if free:
                    values[source] = view
                in_place[i].append(free)
        found = [
            self.device.empty(shape) if value is None else value
            for value, shape in zip(values, shapes, strict=True)
        ]
        return found, in_place

    def _allocate_layers(
        self, values: list[Array], in_place: list[list[bool]], gradients: _Gradients
    ) -> list[LayerBuffers]:
        at, net = self.device, self.net
        shapes = [net.input_shapes(i) for i in range(len(net.layers))]
        floats = max(self._floats("workspace", i) for i in range(len(net.layers)))
        workspace = self._some(floats)
        masked = _masked(net)
        layers: list[LayerBuffers] = []
        streams = 0
        for i, (name, parameters) in enumerate(net.layer_parameters()):
            layer = net.layers[i]
            saved = layer.saved(*shapes[i], images=self.images)
            layers.append(
                layer.buffers_type(
                    device=at,
                    xs=[values[source] for source in net.sources[i]],
                    y=values[i + 1],
                    dxs=gradients.of_inputs[i],
                    dy=gradients.of_values[i + 1],
                    in_place=in_place[i],
                    parameters={kind: self.weights[f"{name}.{kind}"] for kind in parameters},
                    gradients={kind: self.gradients[f"{name}.{kind}"] for kind in parameters},
                    saved={kind: at.empty(spec.shape, spec.dtype) for kind, spec in saved.items()},
                    buffers={
                        kind: self.buffers[f"{name}.{kind}"] for kind in layer.buffers(*shapes[i])
                    },
                    workspace=workspace,
                    weight_transform=self._some(self._floats("weight_transform", i)),
                    stream=streams,
                    masks_dx=masked[net.sources[i][0]],
                    dy_masked=masked[i + 1],
                )
            )
            streams += layer.draws
        return layers

    def _some(self, floats: int) -> Array | None:
        return self.device.empty((floats,)) if floats else None

    def _floats(self, what: str, layer: int) -> int:
        """What a layer's method of this name returns; NetError where the batch is too large."""
        count = getattr(self.net.layers[layer], what)
        try:
            return int(count(self.device, *self.net.input_shapes(layer), images=self.images))
        except ValueError as error:
            raise NetError(
                f"net {self.net.name}, layer {self.net.names[layer]}: a batch of {self.images} "
                f"images is too large: {error}"
            ) from None

    def algorithms(self) -> list[str]:
        """How the device computes each layer, "" where there is one way."""
        return [
            layer.algorithm(self.device, *self.net.input_shapes(i), images=self.images)
            for i, layer in enumerate(self.net.layers)
        ]

    def forward(self, layer: int, step: StepContext) -> None:
        """Computes the output of the layer of this number, if it is here."""
        if layer < len(self.layers):
            self.layers[layer].weights_version = self.weights.version
            self.net.layers[layer].forward(self.layers[layer], step)

    def backward(self, layer: int, step: StepContext) -> None:
        """Computes the gradients of the layer of this number, if it is here."""
        if layer >= len(self.layers) or self.layers[layer].dy is None:
            return
        own, buffers = self.net.layers[layer], self.layers[layer]
        own.backward(buffers, step)
        for part in self._sums[layer]:
            ops.add(part.total, part.term, out=part.total)
        for complete in self._completes[layer]:
            self.net.layers[complete].dy_queued(self.layers[complete])
        own.backward_parameters(buffers, step)

    def parameter_bytes(self) -> int:
        """Bytes of the weights and their gradients."""
        return int(self.weights.flat.nbytes + self.gradients.flat.nbytes)

    def activation_bytes(self) -> list[int]:
        """Bytes that each layer keeps from its forward to its backward pass."""
        return [
            own.y.nbytes
            - sum(x.nbytes for x, there in zip(own.xs, own.in_place, strict=True) if there)
            + sum(array.nbytes for array in own.saved.values())
            for own in self.layers
        ]


class _Sum(NamedTuple):
    """A gradient of a value that several layers read: `term` is to be added to `total`."""

    total: Array
    term: Array


class _Gradients:
    """Arrays for the gradients of a net's values, in buffers that are shared over time.

    Attributes
    ----------
    of_values : list of Array or None
        By value; None where no layer below has parameters.
    of_inputs : list of list of Array or None
        By layer and input, where the layer writes it: the value's own gradient for the last reader,
        whose backward pass comes first, and an array of its own for the others.
    sums : list of list of _Sum
        By layer, what to add up after its backward pass.
    """

    def __init__(self, net: Net, device: Device, images: int) -> None:
        needed = _needed(net)
        count = len(net.layers)
        keys: list[tuple[int, int, int]] = []  # (value, layer, input); layer -1: the loss
        lifetimes: list[Lifetime] = []
        shapes = [(*shape, images) for shape in net.shapes()]

        def use(key: tuple[int, int, int], first: int, last: int) -> None:
            keys.append(key)
            lifetimes.append(Lifetime(first, last, math.prod(shapes[key[0]])))

        # Step 0 is the loss, step 1 the last layer's backward pass.
        use((count, -1, 0), 0, 1)
        written = {count}
        for layer in reversed(range(count)):
            for place, source in enumerate(net.sources[layer]):
                if not needed[source]:
                    continue
                now = count - layer
                # A value's gradient is read by its own layer's backward pass.
                last = now if source in written else count - (source - 1)
                use((source, layer, place), now, last)
                written.add(source)
        plan = plan_buffers(lifetimes)
        buffers = [device.empty((size,)) for size in plan.sizes]

        def view(buffer: int, shape: Shape) -> Array:
            return buffers[buffer][: math.prod(shape)].reshape(shape)

        self.of_values: list[Array | None] = [None] * (count + 1)
        self.of_inputs: list[list[Array | None]] = [[None] * len(s) for s in net.sources]
        self.sums: list[list[_Sum]] = [[] for _ in range(count)]
        for (value, layer, place), buffer in zip(keys, plan.buffers, strict=True):
            array = view(buffer, shapes[value])
            total = self.of_values[value]
            if total is None:
                self.of_values[value] = array
            else:
                self.sums[layer].append(_Sum(total, array))
            if layer >= 0:
                self.of_inputs[layer][place] = array


def _completes(net: Net) -> list[list[int]]:
    """For each layer, the layers whose outputs' gradients are complete after its backward pass."""
    first_reader: dict[int, int] = {}
    for layer, sources in enumerate(net.sources):
        for source in sources:
            first_reader.setdefault(source, layer)
    return [
        sorted({source - 1 for source in sources if source > 0 and first_reader[source] == layer})
        for layer, sources in enumerate(net.sources)
    ]


def _masked(net: Net) -> list[bool]:
    """For each value, whether its reader applies the mask of the ReLU that it is the output of.

    That saves a pass over the gradient. A value of several readers is masked by its own layer, when
    their gradients have been added up.
    """
    readers: list[list[int]] = [[] for _ in range(len(net.layers) + 1)]
    for layer, sources in enumerate(net.sources):
        for source in sources:
            readers[source].append(layer)
    relus = [False, *(layer.has_relu for layer in net.layers)]
    return [
        relu and len(by) == 1 and net.layers[by[0]].can_mask
        for relu, by in zip(relus, readers, strict=True)
    ]


def _needed(net: Net) -> list[bool]:
    """For each value, whether its gradient is needed: it or a value below has parameters."""
    needed = [False]
    for (_, parameters), sources in zip(net.layer_parameters(), net.sources, strict=True):
        needed.append(bool(parameters) or any(needed[source] for source in sources))
    return needed
