"""A net with its weights on one device, or on two with a tower each.

Data flows one way: uint8 images (N, H, W, C) → normalised crops → layers → loss → gradients. An
optimiser then updates the weights by their gradients.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet import device as devices
from pyalexnet.data.augmentation import centre_crops
from pyalexnet.device import Array, Device, Floats
from pyalexnet.device.planned import PlannedDevice, check_fits
from pyalexnet.errors import DataError, DeviceError, UserError
from pyalexnet.nn.arena import Tensors
from pyalexnet.nn.device_net import DeviceNet
from pyalexnet.nn.layers import LossBuffers, Parameter, StepContext
from pyalexnet.nn.net import Net
from pyalexnet.nn.optim import SGD
from pyalexnet.nn.summary import layer_table, layer_values
from pyalexnet.parallel import exchange, split
from pyalexnet.text import printable

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]
Crops = npt.NDArray[np.int32]

_INIT_STREAM = 0x696E6974 << 32  # keeps these random numbers apart from others of the same seed


class Metrics(NamedTuple):
    """Means over the images that count."""

    loss: float  #: NaN when there were no images
    top1_error: float  #: share of images, 0..1, whose label was not the most probable class
    top5_error: float  #: share of images, 0..1, whose label was not among the five most probable
    images: int  #: images with a label, which are those that count


class Totals(NamedTuple):
    """Sums over the images that count, which can be added up over batches and processes."""

    loss: float = 0.0
    top1: float = 0.0  #: images whose label was the most probable class
    top5: float = 0.0  #: images whose label was among the min(5, classes) most probable
    images: float = 0.0

    def metrics(self) -> Metrics:
        """The means."""
        n = self.images
        if not n:
            return Metrics(float("nan"), float("nan"), float("nan"), 0)
        return Metrics(self.loss / n, (n - self.top1) / n, (n - self.top5) / n, int(n))


class Model:
    """A net with its weights and the buffers to train it.

    On two devices the net is split in two towers as in the paper (see `parallel.split`), which
    takes the same steps as the whole net but for the order of some sums. Weights go in and out as
    those of the whole net, whatever the number of devices.

    All arrays that go in and out are NumPy's:

    - images: uint8 (N, H, W, C), at most `batch_size` but in `predict`;
    - labels: int32 (N,), -1 for an image that does not count;
    - crops: int32 (N, 3), the first row and column, and 1 to mirror; by default, the centre.

    Attributes
    ----------
    net, batch_size : as given
    parts : list of DeviceNet
        The net, or its two towers.
    """

    def __init__(
        self,
        net: Net,
        device: str | Device | Sequence[Device] = "auto",
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        """Allocates everything and draws the initial weights.

        Parameters
        ----------
        net : Net
        device : str, Device or sequence of Device
            "cpu", "cuda", "cuda:1", "auto" (a GPU if one can be used); two of a kind, which may be
            the same one, for a tower each: "cuda:0,cuda:1", "cpu,cpu".
        batch_size : int
            Images at most in a step.
        seed : int
            Of the initial weights.

        Raises
        ------
        DeviceError
            A device cannot be used, or more than two are named.
        NetError
            The net cannot be split over two devices.
        UserError
            A device has too little memory; nothing has been allocated.
        """
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; expected at least 1")
        if isinstance(device, str):
            device = devices.open(device)
        found = [device] if isinstance(device, Device) else list(device)
        if not 1 <= len(found) <= 2:
            raise DeviceError(f"{len(found)} devices; expected one, or two for the two towers")
        if len({device.images_multiple for device in found}) > 1:
            raise DeviceError(
                f"devices are {found[0].name} and {found[1].name}; expected two of one kind"
            )
        if found[0].allocates:
            _check_memory(net, found, batch_size)
        self.net, self.batch_size = net, batch_size
        nets = (net,) if len(found) == 1 else split.towers(net)
        self.parts = [DeviceNet(part, at, batch_size) for part, at in zip(nets, found, strict=True)]
        if len(found) == 2:
            exchange.connect(*self.parts)
        parameters = net.parameters()
        shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self._gradients = Tensors(shapes, [(part.device, part.gradients) for part in self.parts])
        buffers = {name: buffer.shape for name, buffer in net.buffers().items()}
        self._state = Tensors(
            shapes | buffers,
            [(part.device, {**part.weights, **part.buffers}) for part in self.parts],
        )
        if not found[0].allocates:
            return
        self._state.fill(
            (name, _initial(parameter, seed, index))
            for index, (name, parameter) in enumerate(parameters.items())
        )

    @property
    def device_name(self) -> str:
        """The devices' names, as the constructor takes them."""
        return ",".join(part.device.name for part in self.parts)

    @property
    def device_words(self) -> str:
        """The devices in words: "CPU, 2 threads (host)", "two towers on …"."""
        found = list(dict.fromkeys(part.device.words for part in self.parts))
        return f"{'two towers on ' * (len(self.parts) > 1)}{' and '.join(found)}"

    def synchronize(self) -> None:
        """Waits until all queued work is done."""
        for part in self.parts:
            part.device.synchronize()

    @property
    def mean_image(self) -> Floats | None:
        """The training set's mean image (H, W, C), if it has been set."""
        return self.parts[0].input.mean_image

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the mean image, else of the images read last, else of the net's input."""
        return self.parts[0].input.image_shape

    def set_mean_image(self, mean: Floats) -> None:
        """Sets the training set's mean image (H, W, C), which `Net.normalization` may subtract.

        Until then it is zero.
        """
        for part in self.parts:
            part.input.set_mean_image(np.asarray(mean, np.float32))

    def forward_backward(
        self,
        images: Images,
        labels: Labels,
        crops: Crops | None = None,
        *,
        seed: int = 0,
        step: int = 0,
        first_image: int = 0,
        global_batch: int | None = None,
        shifts: Floats | None = None,
        ready: Callable[[int, str], None] | None = None,
    ) -> None:
        """Computes the gradients of the mean loss and adds the batch to the metrics.

        Parameters
        ----------
        images, labels, crops
            As the class says.
        seed, step, first_image : int
            Decide what dropout drops; `first_image` is the place of the first image in the global
            batch.
        global_batch : int, optional
            Images of the global batch, over which the loss is averaged; by default, those here.
        shifts : float32 (N, C), optional
            Are added to the images' colours.
        ready : callable, optional
            Called with a place in `parts` and a layer's name when the layer's backward pass has
            been queued there, the last layer first.

        Raises
        ------
        DataError
            Images or labels do not fit the net.
        """
        context = StepContext(True, len(images), seed, step, first_image)
        self._forward(images, crops, context, shifts)
        loss = self._loss(images, labels)
        self.net.loss.forward_backward(loss, 1 / (global_batch or len(images)))
        for layer in reversed(range(len(self.parts[0].layers))):
            for number, part in enumerate(self.parts):
                if layer < len(part.layers):
                    part.backward(layer, context)
                    if ready is not None:
                        ready(number, part.net.names[layer])

    def evaluate(self, images: Images, labels: Labels, crops: Crops | None = None) -> None:
        """Adds a batch to the metrics, the net in test mode; errors as `forward_backward`."""
        self._forward(images, crops, StepContext(False, len(images)))
        self.net.loss.forward(self._loss(images, labels))

    def predict(self, images: Images, crops: Crops | None = None) -> Floats:
        """Probabilities (N, classes) of any number of images, the net in test mode."""
        size = self.batch_size
        if len(images) <= size:
            return self._predict(images, crops)
        starts = range(0, len(images), size)
        return np.concatenate(
            [
                self._predict(images[i : i + size], None if crops is None else crops[i : i + size])
                for i in starts
            ]
        )

    def _predict(self, images: Images, crops: Crops | None) -> Floats:
        self._forward(images, crops, StepContext(False, len(images)))
        loss = self._loss_buffers
        return _by_image(loss, self.net.loss.probabilities(loss), len(images))

    def logits(self, images: Images, crops: Crops | None = None) -> Floats:
        """Outputs of the last layer (N, classes), the net in test mode."""
        self._forward(images, crops, StepContext(False, len(images)))
        return _by_image(self._loss_buffers, self._loss_buffers.logits, len(images))

    def pop_metrics(self) -> Metrics:
        """Metrics of the batches since the last call, which are then forgotten."""
        metrics = self.totals().metrics()
        self.set_totals(Totals())
        return metrics

    def totals(self) -> Totals:
        """The sums that `pop_metrics` divides."""
        loss = self._loss_buffers
        return Totals(*loss.device.download(loss.totals).tolist())

    def set_totals(self, totals: Totals) -> None:
        """Sets the sums, such as those of a checkpoint."""
        loss = self._loss_buffers
        loss.device.copy_in(loss.totals, np.array(totals, np.float64))

    def state(self) -> dict[str, Floats]:
        """A copy of all weights and the layers' buffers.

        Filters are (C/G, R, S, K), fully connected weights (in, out), biases (K,).
        """
        return self._state.state()

    def load_state(self, state: Mapping[str, npt.NDArray[np.floating]]) -> None:
        """Sets what `state` has returned.

        Raises
        ------
        CheckpointError
            A tensor is missing, has another shape, or is unknown; nothing has changed.
        """
        self._state.load(state, f"net {self.net.name}")
        for part in self.parts:
            part.weights.changed()

    def gradients(self) -> dict[str, Floats]:
        """A copy of all gradients, named and shaped as the weights."""
        return self._gradients.state()

    def checksums(self) -> list[int]:
        """CRC-32 of the weights on each device."""
        return [zlib.crc32(part.device.download(part.weights.flat).data) for part in self.parts]

    def summary(self, optimiser: SGD | None = None) -> str:
        """A table of the layers on each device, see `nn.summary`; memory includes the optimiser."""
        name, at = printable(self.net.name), self.device_name
        head = f"{name} on {at}, up to {self.batch_size} images at once"
        return f"{head}\n{layer_table(self.parts, _state_bytes(optimiser))}"

    def summary_values(self, optimiser: SGD | None = None) -> dict[str, Any]:
        """What `summary` shows, as JSON values."""
        return {
            "net": self.net.name,
            "device": self.device_name,
            "batch_size": self.batch_size,
            "parts": layer_values(self.parts, _state_bytes(optimiser)),
        }

    @property
    def _loss_buffers(self) -> LossBuffers:
        loss = self.parts[0].loss
        assert loss is not None  # tower 0 has the logits
        return loss

    def _loss(self, images: Images, labels: Labels) -> LossBuffers:
        """The loss's buffers with these labels."""
        classes, name = self.net.classes, self.net.name
        if len(labels) != len(images):
            raise ValueError(
                f"labels are {len(labels)}; expected {len(images)}, one for each image"
            )
        if labels.min() < -1 or labels.max() >= classes:
            raise DataError(
                f"labels are from {labels.min()} to {labels.max()}; net {name} expected 0 to "
                f"{classes - 1}, or -1 for none"
            )
        self._loss_buffers.set_labels(labels)
        return self._loss_buffers

    def _forward(
        self,
        images: Images,
        crops: Crops | None,
        context: StepContext,
        shifts: Floats | None = None,
    ) -> None:
        count, stored = len(images), images.shape[1:]
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(
                f"images are {images.dtype} {images.shape}; expected uint8 (N, H, W, C)"
            )
        if not 0 < count <= self.batch_size:
            raise ValueError(f"images are {count}; expected 1 to batch_size, {self.batch_size}")
        if stored[2] != self.net.input[0]:
            raise DataError(
                f"images have {stored[2]} channels; net {self.net.name} expected "
                f"{self.net.input[0]}"
            )
        if crops is None:
            crops = centre_crops(count, stored[:2], self.net.input[1:])
        for part in self.parts:
            part.input.load(images, crops, shifts)
        # Layer by layer, so that what an exchange copies has been queued on the other device.
        for layer in range(len(self.parts[0].layers)):
            for part in self.parts:
                part.forward(layer, context)


def _check_memory(net: Net, devices: Sequence[Device], batch_size: int) -> None:
    planned = [PlannedDevice(device) for device in devices]
    Model(net, planned, batch_size)
    check_fits(planned, f"net {net.name} at batch-size {batch_size}")


def _state_bytes(optimiser: SGD | None) -> Callable[[DeviceNet], int]:
    return (lambda part: 0) if optimiser is None else optimiser.state_bytes


def _by_image(loss: LossBuffers, array: Array, count: int) -> Floats:
    return np.ascontiguousarray(loss.device.download(array)[:, :count].T)


def _initial(parameter: Parameter, seed: int, index: int) -> Floats:
    """Initial values of a parameter, decided by `seed` and its place among the net's parameters."""
    if not parameter.std:
        return np.full(parameter.shape, parameter.constant, np.float32)
    key = np.array([seed % 2**64, _INIT_STREAM + index], np.uint64)
    values = np.random.Generator(np.random.Philox(key=key)).standard_normal(
        parameter.shape, np.float32
    )
    values *= np.float32(parameter.std)
    values += np.float32(parameter.constant)
    return values
