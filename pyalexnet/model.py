"""A net at work: the forward and backward pass over one device, or two with a tower each.

Data flows one way: uint8 images (B, H, W, C) → augment → layers → loss → gradients; the optimiser
then changes the towers' weights by their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet import device as devices
from pyalexnet import nets, ops
from pyalexnet.device import Array, Device, Shape
from pyalexnet.errors import CheckpointError, DataError, DeviceError
from pyalexnet.layers import Exchange, Parameter, Pass
from pyalexnet.nets import Net
from pyalexnet.towers import Arena, Tower, connect

Floats = npt.NDArray[np.float32]

_INIT_STREAM = 0x696E6974 << 32  # keeps these random numbers apart from others of the same seed


class Totals(NamedTuple):
    """What a model has counted since the last `Model.take_totals`."""

    loss: float  #: mean of the images' losses; not a number when there were no images
    top1: float  #: share of images whose label was not the most probable class, 0..1
    top5: float  #: share of images whose label was not among the min(5, classes) most probable
    images: int  #: images with a label, which are those that count


class Model:
    """A net with its weights on one device or two, and the buffers to train it.

    On two devices the net is split in two towers as in the paper (see `nets.towers`), which takes
    the same steps as the whole net but for the order of some sums. Whatever the number of devices,
    parameters go in and out as those of the whole net.

    Images and labels are the host's; `images` are uint8 (B, H, W, C), B at most `batch`, `labels`
    int32 (B), -1 for an image that shall not count, `crops` int32 (B, 3): first row and column, and
    1 to mirror. Smaller batches are padded with images that count nowhere.

    Attributes
    ----------
    net, batch : as given
    towers : list of Tower
        The net itself, or its two towers.
    """

    def __init__(
        self, net: Net, device: str | Device | Sequence[Device], batch: int, seed: int = 0
    ) -> None:
        """Allocates everything; weights begin as `Net.parameters` says, decided by `seed`.

        `device` is one device, or two, which may be the same one twice; "host,host".

        Raises
        ------
        DeviceError
            There is no such device, or more than two are named.
        NetError
            The net cannot be split over two devices.
        """
        if isinstance(device, str):
            device = [devices.get(name) for name in device.split(",")]
        found = [device] if isinstance(device, Device) else list(device)
        if len(found) > 2:
            raise DeviceError(f"{len(found)} devices; expected one, or two for the two towers")
        if len({device.images_multiple for device in found}) > 1:
            raise DeviceError(
                f"devices {found[0].name} and {found[1].name}: expected two of one kind"
            )
        self.net, self.batch = net, batch
        parts = (net,) if len(found) == 1 else nets.towers(net)
        self.towers = [
            Tower(part, at, batch, number)
            for number, (part, at) in enumerate(zip(parts, found, strict=True))
        ]
        if len(found) == 2:
            connect(*self.towers)
        self._scatter(
            lambda tower: tower.weights,
            (
                (name, _initial(parameter, seed, index))
                for index, (name, parameter) in enumerate(net.parameters().items())
            ),
        )
        at, images = self.towers[0].device, self.towers[0].images
        self._mean_shape: Shape | None = None
        self._labels = at.zeros((images,), np.int32)
        self._logits = self.towers[0].slots[-1].y
        self._loss = ops.Loss(
            probabilities=at.empty((net.classes, images)),
            dlogits=self.towers[0].slots[-1].dy,
            losses=at.empty((images,)),
            ranks=at.empty((images,), np.int32),
        )
        self._totals = at.zeros((4,), np.float64)

    @property
    def device_name(self) -> str:
        """The devices' names, as `Model` takes them."""
        return ",".join(tower.device.name for tower in self.towers)

    def synchronize(self) -> None:
        """Waits until all queued work has been done."""
        for tower in self.towers:
            tower.device.synchronize()

    def set_mean(self, mean: Floats) -> None:
        """Sets the mean (H, W, C) of stored images, which is subtracted; at first it is zero."""
        self._mean_shape = mean.shape
        for tower in self.towers:
            tower.set_mean(np.asarray(mean, np.float32))

    def train_step(
        self,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int32],
        crops: npt.NDArray[np.int32],
        *,
        seed: int,
        step: int,
        first_image: int = 0,
        global_batch: int | None = None,
        shifts: Floats | None = None,
        ready: Callable[[int, str], None] | None = None,
    ) -> None:
        """Computes `gradients` of the mean loss over `global_batch` images, by default these B.

        `seed`, `step` and `first_image`, the first image's place in the global batch, decide what
        dropout drops. `shifts` (B, C), where given, are added to the images' colours. Adds the
        batch to the totals. `ready` is called with a tower's place in `towers` and a layer's name
        when the layer's backward pass has been queued there, the last layer first.
        """
        run = Pass(training=True, seed=seed, step=step, first_image=first_image)
        self._forward(images, crops, run, shifts)
        scale = 1 / (global_batch or len(images))
        self._compare(labels, len(images), scale, self._loss, self._totals)
        for layer in reversed(range(len(self.towers[0].slots))):
            for number, tower in enumerate(self.towers):
                if layer < len(tower.slots):
                    tower.backward(layer, run)
                    if ready is not None:
                        ready(number, tower.net.names[layer])

    def eval_step(
        self,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int32],
        crops: npt.NDArray[np.int32],
    ) -> None:
        """Adds a batch to the totals, the net being in its test mode."""
        self._forward(images, crops, Pass(training=False))
        out = self._loss._replace(probabilities=None, dlogits=None)
        self._compare(labels, len(images), 1.0, out, self._totals)

    def probabilities(self, images: npt.NDArray[np.uint8], crops: npt.NDArray[np.int32]) -> Floats:
        """The classes' probabilities (B, classes), the net being in its test mode."""
        self._forward(images, crops, Pass(training=False))
        labels = np.full(len(images), -1, np.int32)
        self._compare(labels, len(images), 1.0, self._loss._replace(dlogits=None), None)
        assert self._loss.probabilities is not None
        return self._by_image(self._loss.probabilities, len(images))

    def logits(self, images: npt.NDArray[np.uint8], crops: npt.NDArray[np.int32]) -> Floats:
        """The last layer's outputs (B, classes), the net being in its test mode."""
        self._forward(images, crops, Pass(training=False))
        return self._by_image(self._logits, len(images))

    def take_totals(self) -> Totals:
        """What the steps since the last call have added up to."""
        loss, first, among, images = self.raw_totals().tolist()
        self.set_raw_totals(np.zeros(4))
        if not images:
            return Totals(float("nan"), float("nan"), float("nan"), 0)
        return Totals(
            loss / images, (images - first) / images, (images - among) / images, int(images)
        )

    def raw_totals(self) -> npt.NDArray[np.float64]:
        """Sums (4) of losses, images right at once, right among five, and images."""
        return self.towers[0].device.download(self._totals)

    def set_raw_totals(self, totals: npt.NDArray[np.float64]) -> None:
        """Sets what `raw_totals` has returned, to go on counting from there."""
        self.towers[0].device.copy_in(self._totals, totals)

    def state(self) -> dict[str, Floats]:
        """A copy of all weights: filters (C/G, R, S, K), fully connected (in, out), biases (K)."""
        return self._gather(lambda tower: tower.weights)

    def load_state(self, state: Mapping[str, npt.NDArray[np.floating]]) -> None:
        """Sets all weights.

        Raises
        ------
        CheckpointError
            A tensor is missing, has another shape, or is none of this net's; nothing has changed.
        """
        self._check_state(state)
        self._scatter(lambda tower: tower.weights, state.items())

    def gradients_state(self) -> dict[str, Floats]:
        """A copy of all gradients, named and shaped as the weights."""
        return self._gather(lambda tower: tower.gradients)

    def momenta_state(self) -> dict[str, Floats]:
        """A copy of all momenta, named and shaped as the weights."""
        return self._gather(lambda tower: tower.momenta)

    def load_momenta(self, state: Mapping[str, npt.NDArray[np.floating]]) -> None:
        """Sets all momenta; errors as `load_state`."""
        self._check_state(state)
        self._scatter(lambda tower: tower.momenta, state.items())

    def magnitudes(self) -> dict[str, tuple[float, float]]:
        """For each parameter: mean |w| and mean |Δw|, of its weights and of their last change."""
        weights, changes = self.state(), self.momenta_state()
        return {name: (_mean_abs(weights[name]), _mean_abs(changes[name])) for name in weights}

    def take_traffic(self) -> dict[str, int]:
        """Bytes that have crossed between the towers since the last call, by the exchange's name.

        Those of both directions, forward and backward.
        """
        traffic: dict[str, int] = {}
        for tower in self.towers:
            for name, layer, slot in zip(
                tower.net.names, tower.net.layers, tower.slots, strict=True
            ):
                if isinstance(layer, Exchange):
                    traffic[name] = traffic.get(name, 0) + slot.moved
                    slot.moved = 0
        return traffic

    def summary(self) -> str:
        """A table of the layers on each device: shapes, parameters, cost and memory.

        MFLOP are those of an image's forward pass, a multiplication and an addition being two. MB
        are the activations that a layer keeps for the backward pass of `batch` images.
        """
        images = self.towers[0].images
        rows = [f"{self.net.name} on {self.device_name}, up to {self.batch} images at once"]
        line = "{:<12}{:>14}{:>14}{:>12}{:>10}".format
        for tower in self.towers:
            net, shapes, kept = tower.net, tower.net.shapes(), tower.activation_bytes()
            if len(self.towers) > 1:
                rows += ["", f"{net.name}, on {tower.device.name}"]
            rows.append(line("layer", "output", "parameters", "MFLOP", "MB"))
            at_input = math.prod(shapes[0]) * images * 4
            rows.append(line("input", _by(shapes[0]), "", "", f"{at_input / 1e6:,.1f}"))
            counts, macs = [], []
            for i, (name, parameters) in enumerate(net.layer_parameters()):
                counts.append(sum(parameter.size for parameter in parameters.values()))
                macs.append(net.layers[i].macs(shapes[i]))
                rows.append(line(name, _by(shapes[i + 1]), *_counts(counts[-1], macs[-1], kept[i])))
            total = at_input + sum(kept)
            rows.append(line("total", "", *_counts(sum(counts), sum(macs), total)))
            rows.append(f"weights, gradients and momenta: {tower.parameter_bytes() / 1e6:,.1f} MB")
        return "\n".join(row.rstrip() for row in rows)

    def _forward(
        self,
        images: npt.NDArray[np.uint8],
        crops: npt.NDArray[np.int32],
        run: Pass,
        shifts: Floats | None = None,
    ) -> None:
        count, stored = len(images), images.shape[1:]
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"images: {images.dtype} {images.shape}, expected uint8 (B, H, W, C)")
        if not 0 < count <= self.batch:
            raise ValueError(f"images: {count}, expected 1 to the model's batch, {self.batch}")
        if stored[2] != self.net.input[0]:
            raise DataError(
                f"the images have {stored[2]} channels, "
                f"net {self.net.name} reads {self.net.input[0]}"
            )
        if self._mean_shape not in (None, stored):
            raise DataError(f"the mean image is {self._mean_shape}, the images are {stored}")
        for tower in self.towers:
            tower.load(images, crops, shifts)
        # Layer by layer, so that what an exchange fetches has been queued on the other device.
        for layer in range(len(self.towers[0].slots)):
            for tower in self.towers:
                tower.forward(layer, run)

    def _compare(
        self,
        labels: npt.NDArray[np.int32],
        count: int,
        scale: float,
        out: ops.Loss,
        totals: Array | None,
    ) -> None:
        """The loss of the logits that `_forward` has left, against `labels`."""
        classes = self.net.classes
        if len(labels) != count:
            raise ValueError(f"labels: {len(labels)} for {count} images")
        if labels.min() < -1 or labels.max() >= classes:
            raise DataError(
                f"labels from {labels.min()} to {labels.max()}, net {self.net.name} has {classes} "
                f"classes: expected 0 to {classes - 1}, or -1 for none"
            )
        padded = np.full(self._labels.shape, -1, np.int32)
        padded[: len(labels)] = labels
        self.towers[0].device.copy_in(self._labels, padded)
        ops.softmax_cross_entropy(
            self._logits, self._labels, k=min(5, classes), scale=scale, totals=totals, out=out
        )

    def _by_image(self, array: Array, count: int) -> Floats:
        return np.ascontiguousarray(self.towers[0].device.download(array)[:, :count].T)

    def _gather(self, arena_of: Callable[[Tower], Arena]) -> dict[str, Floats]:
        """The whole net's tensors, from the towers' parts, which share the last axis."""
        whole = {}
        for name in self.net.parameters():
            arenas = [arena_of(tower) for tower in self.towers]
            parts = [
                tower.device.download(arena[name])
                for tower, arena in zip(self.towers, arenas, strict=True)
                if name in arena.names
            ]
            whole[name] = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        return whole

    def _scatter(
        self,
        arena_of: Callable[[Tower], Arena],
        tensors: Iterable[tuple[str, npt.NDArray[np.floating]]],
    ) -> None:
        """Gives each tower its part of the whole net's tensors."""
        for name, tensor in tensors:
            owners = [tower for tower in self.towers if name in arena_of(tower).names]
            parts = np.split(tensor, len(owners), axis=-1)
            for tower, part in zip(owners, parts, strict=True):
                tower.device.copy_in(arena_of(tower)[name], part)

    def _check_state(self, state: Mapping[str, npt.NDArray[np.floating]]) -> None:
        parameters = self.net.parameters()
        for name, parameter in parameters.items():
            if name not in state:
                raise CheckpointError(f"tensor {name} is missing; net {self.net.name} needs it")
            if state[name].shape != parameter.shape:
                raise CheckpointError(
                    f"tensor {name} is {state[name].shape}, net {self.net.name} needs "
                    f"{parameter.shape}"
                )
        unknown = sorted(set(state) - set(parameters))
        if unknown:
            raise CheckpointError(f"tensor {unknown[0]}: net {self.net.name} has no such tensor")


def _initial(parameter: Parameter, seed: int, index: int) -> Floats:
    """A parameter's first values, decided by `seed` and its place among the net's parameters."""
    if not parameter.std:
        return np.full(parameter.shape, parameter.constant, np.float32)
    key = np.array([seed % 2**64, _INIT_STREAM + index], np.uint64)
    values = np.random.Generator(np.random.Philox(key=key)).standard_normal(
        parameter.shape, np.float32
    )
    values *= np.float32(parameter.std)
    values += np.float32(parameter.constant)
    return values


def _mean_abs(values: Floats) -> float:
    return float(np.abs(values).mean(dtype=np.float64))


def _by(shape: Shape) -> str:
    return "×".join(map(str, shape))


def _counts(parameters: int, macs: int, kept: int) -> tuple[str, str, str]:
    return (
        f"{parameters:,}" if parameters else "",
        f"{2 * macs / 1e6:,.1f}" if macs else "",
        f"{kept / 1e6:,.1f}",
    )
