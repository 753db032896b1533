"""A net on a device: its arrays, the forward and backward pass, parameters and gradients.

Data flows one way: uint8 images (B, H, W, C) → augment → layers → loss → gradients; the optimiser
then changes `Model.weights` by `Model.gradients`. Everything is allocated when a model is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet import device as devices
from pyalexnet import ops
from pyalexnet.device import Array, Device, Shape
from pyalexnet.errors import CheckpointError, DataError
from pyalexnet.layers import Dropout, Parameter, Pass, Slot
from pyalexnet.nets import Net

Floats = npt.NDArray[np.float32]

_ALIGN = 64  # floats: the segments that ops.sgd takes begin at multiples of this
_INIT_STREAM = 0x696E6974 << 32  # keeps these random numbers apart from others of the same seed


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


class Totals(NamedTuple):
    """What a model has counted since the last `Model.take_totals`."""

    loss: float  #: mean of the images' losses; not a number when there were no images
    top1: float  #: share of images whose label was not the most probable class, 0..1
    top5: float  #: share of images whose label was not among the min(5, classes) most probable
    images: int  #: images with a label, which are those that count


class Model:
    """A net with its weights on one device, and the buffers to train it.

    Images and labels are the host's; `images` are uint8 (B, H, W, C), B at most `batch`, `labels`
    int32 (B), -1 for an image that shall not count, `crops` int32 (B, 3): first row and column, and
    1 to mirror. Smaller batches are padded with images that count nowhere.

    Attributes
    ----------
    net, device, batch : as given
    weights, gradients, momenta : arenas of equal layout
    """

    def __init__(self, net: Net, device: str | Device, batch: int, seed: int = 0) -> None:
        """Allocates everything; weights begin as `Net.parameters` says, decided by `seed`.

        Raises
        ------
        DeviceError
            There is no such device.
        """
        self.net = net
        self.device = devices.get(device) if isinstance(device, str) else device
        self.batch = batch
        parameters = net.parameters()
        shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.weights = Arena(self.device, shapes)
        self.gradients = Arena(self.device, shapes)
        self.momenta = Arena(self.device, shapes)
        for index, (name, parameter) in enumerate(parameters.items()):
            self.device.copy_in(self.weights[name], _initial(parameter, seed, index))

        at, images = self.device, self.device.pad_images(batch)
        self._slots = self._allocate_slots(images)
        self._scale = at.upload(np.array(net.scales, np.float32))
        self._mean: Array | None = None
        self._images: Array | None = (
            None  # these two come with the first batch, whose size they have
        )
        self._zero_mean: Array | None = None
        self._crops = at.zeros((batch, 3), np.int32)
        self._labels = at.zeros((images,), np.int32)
        self._loss = ops.Loss(
            probabilities=at.empty((net.classes, images)),
            dlogits=self._slots[-1].dy,
            losses=at.empty((images,)),
            ranks=at.empty((images,), np.int32),
        )
        self._totals = at.zeros((4,), np.float64)

    def _allocate_slots(self, images: int) -> list[Slot]:
        """A slot for each layer: activations of its own, gradients in two buffers by turns."""
        at, net = self.device, self.net
        shapes = [(*shape, images) for shape in net.shapes()]
        values = [at.empty(shape) for shape in shapes]
        sizes = [math.prod(shape) for shape in shapes]
        turns = at.empty((max(sizes[2::2], default=0),)), at.empty((max(sizes[1::2]),))
        gradients = [
            turns[i % 2][:size].reshape(shape)
            for i, (size, shape) in enumerate(zip(sizes, shapes, strict=True))
            if i > 0
        ]
        floats = max(
            layer.workspace(at, shape, images)
            for layer, shape in zip(net.layers, net.shapes(), strict=False)
        )
        workspace = at.empty((floats,)) if floats else None
        slots: list[Slot] = []
        dx: Array | None = None  # stays None up to the first layer with parameters
        dropouts = 0
        for i, (name, parameters) in enumerate(net.layer_parameters()):
            kept = net.layers[i].kept(net.shapes()[i])
            dy = gradients[i] if parameters or dx is not None else None
            slots.append(
                Slot(
                    x=values[i],
                    y=values[i + 1],
                    dx=dx,
                    dy=dy,
                    parameters={kind: self.weights[f"{name}.{kind}"] for kind in parameters},
                    gradients={kind: self.gradients[f"{name}.{kind}"] for kind in parameters},
                    kept=at.empty((*kept, images), np.uint16) if kept else None,
                    workspace=workspace,
                    dropout=dropouts,
                )
            )
            dx = dy
            dropouts += isinstance(net.layers[i], Dropout)
        return slots

    def set_mean(self, mean: Floats) -> None:
        """Sets the mean (H, W, C) of stored images, which is subtracted; at first it is zero."""
        self._mean = self.device.upload(np.asarray(mean, np.float32))

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
    ) -> None:
        """Computes `gradients` of the mean loss over `global_batch` images, by default these B.

        `seed`, `step` and `first_image`, the first image's place in the global batch, decide what
        dropout drops. Adds the batch to the totals.
        """
        run = Pass(training=True, seed=seed, step=step, first_image=first_image)
        self._forward(images, crops, run)
        scale = 1 / (global_batch or len(images))
        self._compare(labels, len(images), scale, self._loss, self._totals)
        for layer, slot in zip(reversed(self.net.layers), reversed(self._slots), strict=True):
            if slot.dy is not None:
                layer.backward(slot, run)

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
        return self._by_image(self._slots[-1].y, len(images))

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
        return self.device.download(self._totals)

    def set_raw_totals(self, totals: npt.NDArray[np.float64]) -> None:
        """Sets what `raw_totals` has returned, to go on counting from there."""
        self.device.copy_in(self._totals, totals)

    def state(self) -> dict[str, Floats]:
        """A copy of all weights: filters (C/G, R, S, K), fully connected (in, out), biases (K)."""
        return self._download(self.weights)

    def load_state(self, state: Mapping[str, npt.NDArray[np.floating]]) -> None:
        """Sets all weights.

        Raises
        ------
        CheckpointError
            A tensor is missing, has another shape, or is none of this net's; nothing has changed.
        """
        self._load(self.weights, state)

    def momenta_state(self) -> dict[str, Floats]:
        """A copy of all momenta, named and shaped as the weights."""
        return self._download(self.momenta)

    def load_momenta(self, state: Mapping[str, npt.NDArray[np.floating]]) -> None:
        """Sets all momenta; errors as `load_state`."""
        self._load(self.momenta, state)

    def magnitudes(self) -> dict[str, tuple[float, float]]:
        """For each parameter: mean |w| and mean |Δw|, of its weights and of their last change."""
        download = self.device.download
        return {
            name: (_mean_abs(download(view)), _mean_abs(download(self.momenta[name])))
            for name, view in self.weights.items()
        }

    def summary(self) -> str:
        """A table of the layers: shapes, parameters, and MFLOP of an image's forward pass."""
        net, shapes = self.net, self.net.shapes()
        line = "{:<12}{:>14}{:>14}{:>12}".format
        rows = [
            f"{net.name} on {self.device.name}, up to {self.batch} images at once",
            line("layer", "output", "parameters", "MFLOP"),
            line("input", _by(shapes[0]), "", ""),
        ]
        parameters_sum = macs_sum = 0
        for i, (name, parameters) in enumerate(net.layer_parameters()):
            count = sum(parameter.size for parameter in parameters.values())
            macs = net.layers[i].macs(shapes[i])
            rows.append(line(name, _by(shapes[i + 1]), *_counts(count, macs)))
            parameters_sum += count
            macs_sum += macs
        rows.append(line("total", "", *_counts(parameters_sum, macs_sum)))
        return "\n".join(row.rstrip() for row in rows)

    def _forward(
        self, images: npt.NDArray[np.uint8], crops: npt.NDArray[np.int32], run: Pass
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
        if self._mean is not None and self._mean.shape != stored:
            raise DataError(f"the mean image is {self._mean.shape}, the images are {stored}")
        if self._images is None or self._images.shape[1:] != stored:
            self._images = self.device.empty((self.batch, *stored), np.uint8)
            self._zero_mean = self.device.zeros(stored)
        mean = self._zero_mean if self._mean is None else self._mean
        assert mean is not None
        self.device.copy_in(self._images[:count], images)
        self.device.copy_in(self._crops[:count], crops)
        ops.augment(
            self._images[:count],
            self._crops[:count],
            mean,
            self._scale,
            size=self.net.input[1:],
            out=self._slots[0].x,
        )
        for layer, slot in zip(self.net.layers, self._slots, strict=True):
            layer.forward(slot, run)

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
        self.device.copy_in(self._labels, padded)
        logits, k = self._slots[-1].y, min(5, classes)
        ops.softmax_cross_entropy(logits, self._labels, k=k, scale=scale, totals=totals, out=out)

    def _by_image(self, array: Array, count: int) -> Floats:
        return np.ascontiguousarray(self.device.download(array)[:, :count].T)

    def _download(self, arena: Arena) -> dict[str, Floats]:
        return {name: self.device.download(view) for name, view in arena.items()}

    def _load(self, arena: Arena, state: Mapping[str, npt.NDArray[np.floating]]) -> None:
        for name, view in arena.items():
            if name not in state:
                raise CheckpointError(f"tensor {name} is missing; net {self.net.name} needs it")
            if state[name].shape != view.shape:
                raise CheckpointError(
                    f"tensor {name} is {state[name].shape}, net {self.net.name} needs {view.shape}"
                )
        unknown = sorted(set(state) - set(arena.names))
        if unknown:
            raise CheckpointError(f"tensor {unknown[0]}: net {self.net.name} has no such tensor")
        for name, view in arena.items():
            self.device.copy_in(view, state[name])


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


def _counts(parameters: int, macs: int) -> tuple[str, str]:
    return f"{parameters:,}" if parameters else "", f"{2 * macs / 1e6:,.1f}" if macs else ""
