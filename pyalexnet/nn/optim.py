"""SGD with momentum and weight decay (paper, section 5)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pyalexnet import ops
from pyalexnet.device import Array, Floats
from pyalexnet.errors import UserError
from pyalexnet.nn.arena import Arena, Tensors
from pyalexnet.nn.device_net import DeviceNet
from pyalexnet.nn.layers.base import is_number
from pyalexnet.nn.net import Net

MOMENTUM = "momentum."  #: before the parameters' names in `SGD.state`


class Trainable(Protocol):
    """What an optimiser needs of `pyalexnet.Model`."""

    @property
    def net(self) -> Net: ...
    @property
    def parts(self) -> Sequence[DeviceNet]: ...
    def state(self) -> dict[str, Floats]: ...


class _Segments(NamedTuple):
    """A device's parameters, each a segment of its arenas with a rate and a decay of its own."""

    part: DeviceNet
    momentum: Arena
    base: npt.NDArray[np.float32]  #: the rates at a factor of 1
    starts: Array
    rates: Array
    decays: Array


class SGD:
    """Updates a model's weights by their gradients: one launch for all parameters of a device.

    v ← momentum·v - weight_decay·ε·w - ε·gradient; w ← w + v. The optimiser owns v.

    Parameters
    ----------
    model : Model
    lr : float
        ε of the weights, multiplied by `factor`.
    bias_lr : float, optional
        ε of the biases, likewise; by default, twice `lr`, as in the paper's code.
    momentum, weight_decay : float
        Biases do not decay.

    Raises
    ------
    UserError
        A number that float32 does not hold.
    """

    def __init__(
        self,
        model: Trainable,
        *,
        lr: float = 0.01,
        bias_lr: float | None = None,
        momentum: float = 0.9,
        weight_decay: float = 0.0005,
    ) -> None:
        self.lr = lr
        self.bias_lr = 2 * lr if bias_lr is None else bias_lr
        rates = {"lr": lr, "bias_lr": self.bias_lr, "momentum": momentum}
        for name, value in {**rates, "weight_decay": weight_decay}.items():
            if not is_number(value):
                raise UserError(f"{name} is {value!r}; expected a number that float32 holds")
        self.momentum = momentum
        self._model = model
        parameters = model.net.parameters()
        self._segments = []
        for part in model.parts:
            own = [parameters[name] for name in part.weights.names]
            base = np.array([self.bias_lr if p.is_bias else lr for p in own], np.float32)
            decays = np.array([weight_decay if p.decays else 0.0 for p in own], np.float32)
            self._segments.append(
                _Segments(
                    part,
                    part.weights.like(),
                    base,
                    starts=part.device.upload(part.weights.starts),
                    rates=part.device.upload(base),
                    decays=part.device.upload(decays),
                )
            )
        self._tensors = Tensors(
            {f"{MOMENTUM}{name}": p.shape for name, p in parameters.items()},
            [
                (own.part.device, {f"{MOMENTUM}{name}": v for name, v in own.momentum.items()})
                for own in self._segments
            ],
        )
        self._factor = 1.0

    @property
    def factor(self) -> float:
        """Multiplies both learning rates; a schedule changes it."""
        return self._factor

    @factor.setter
    def factor(self, factor: float) -> None:
        self._factor = factor
        for own in self._segments:
            own.part.device.copy_in(own.rates, own.base * np.float32(factor))

    def step(self) -> None:
        """Updates weights and momentum by the gradients of `Model.forward_backward`."""
        for own in self._segments:
            ops.sgd(
                own.part.weights.flat,
                own.part.gradients.flat,
                own.momentum.flat,
                own.starts,
                own.rates,
                own.decays,
                momentum=self.momentum,
            )
            own.part.weights.changed()

    def state(self) -> dict[str, Floats]:
        """A copy of v, named and shaped as the weights: "momentum.conv1.weight"."""
        return self._tensors.state()

    def load_state(self, state: Mapping[str, npt.NDArray[np.floating]]) -> None:
        """Sets what `state` has returned.

        Raises
        ------
        CheckpointError
            A tensor is missing, has another shape, or is unknown; nothing has changed.
        """
        self._tensors.load(state, f"SGD of net {self._model.net.name}")

    def state_bytes(self, part: DeviceNet) -> int:
        """Bytes of v on one of the model's devices."""
        return sum(int(own.momentum.flat.nbytes) for own in self._segments if own.part is part)

    def checksums(self) -> list[int]:
        """CRC-32 of v on each device."""
        return [
            zlib.crc32(own.part.device.download(own.momentum.flat).data) for own in self._segments
        ]

    def weight_stats(self) -> dict[str, tuple[float, float]]:
        """For each parameter, mean |w| and mean |Δw|, of the weights and their last update."""
        weights, updates = self._model.state(), self.state()
        return {
            name: (_mean_abs(weights[name]), _mean_abs(updates[f"{MOMENTUM}{name}"]))
            for name in self._model.net.parameters()
        }


def _mean_abs(values: Floats) -> float:
    return float(np.abs(values).mean(dtype=np.float64))
