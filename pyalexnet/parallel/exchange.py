"""Where the two towers of a split net meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pyalexnet import ops
from pyalexnet.device import Array, Event, Shape
from pyalexnet.nn.device_net import DeviceNet
from pyalexnet.nn.layers import Layer, LayerBuffers, StepContext, TensorSpec


@dataclass
class ExchangeBuffers(LayerBuffers):
    """An exchange's arrays.

    Attributes
    ----------
    peer : ExchangeBuffers or None
        Those of the same exchange in the other tower; set by `connect`.
    dy_ready : Event
        Recorded after the kernels that compute `dy`.
    moved : int
        Bytes received from the other tower so far.
    """

    peer: ExchangeBuffers | None = None
    dy_ready: Event = None
    moved: int = 0


@dataclass(frozen=True)
class Exchange(Layer):
    """Gives each tower the other's maps, too (paper, figure 2).

    In the backward pass, each tower adds the other's gradient of its maps to its own. In both, a
    tower copies what the other has computed, and nothing else moves between devices.

    Attributes
    ----------
    tower : int
        0 or 1, of this half of the exchange.
    gives, takes : bool
        Whether the other tower gets this one's maps, and this one the other's. Where it takes, the
        output has twice the input's channels or features, tower 0's first.
    """

    tower: int
    gives: bool = True
    takes: bool = True

    prefix: ClassVar[str] = "exchange"
    buffers_type: ClassVar[type[LayerBuffers]] = ExchangeBuffers

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = self.one(shapes)
        return (2 * shape[0], *shape[1:]) if self.takes else shape

    def saved(self, *shapes: Shape, images: int) -> dict[str, TensorSpec]:
        both = self.gives and self.takes
        return {"received": TensorSpec((*self.one(shapes), images))} if both else {}

    def input_views(self, y: Array, *shapes: Shape) -> list[Array | None]:
        return [_half(y, self.tower) if self.takes else y]

    def forward(self, buffers: LayerBuffers, step: StepContext) -> None:
        assert isinstance(buffers, ExchangeBuffers) and buffers.peer is not None
        assert buffers.in_place[0]  # the input is its part of the output
        if self.takes:
            out = _half(buffers.y, 1 - self.tower)
            buffers.device.copy_from(out, buffers.peer.x, buffers.peer.device)
            buffers.moved += out.nbytes

    def backward(self, buffers: LayerBuffers, step: StepContext) -> None:
        assert isinstance(buffers, ExchangeBuffers) and buffers.peer is not None
        peer, dx = buffers.peer, buffers.dx
        if dx is None:
            return
        own = _half(buffers.output_gradient, self.tower) if self.takes else None
        if self.gives:
            # The other tower's dy has the gradient of what it took from here.
            theirs = _half(peer.output_gradient, self.tower)
            received = dx if own is None else buffers.saved["received"]
            ready = (buffers.dy_ready, peer.dy_ready)
            buffers.device.copy_from(received, theirs, peer.device, wait_for=ready)
            buffers.moved += received.nbytes
            if own is not None:
                ops.add(own, received, out=dx)
        elif own is not None:
            buffers.device.copy_from(dx, own, buffers.device)

    def dy_queued(self, buffers: LayerBuffers) -> None:
        # The copies of the backward pass need not wait for what is queued from now on.
        assert isinstance(buffers, ExchangeBuffers)
        buffers.dy_ready = buffers.device.record_event()


def connect(first: DeviceNet, second: DeviceNet) -> None:
    """Makes the exchanges of two towers each other's peers."""
    for one, other in zip(first.layers, second.layers, strict=False):
        if isinstance(one, ExchangeBuffers) and isinstance(other, ExchangeBuffers):
            one.peer, other.peer = other, one


def pop_traffic(towers: Sequence[DeviceNet]) -> dict[str, int]:
    """Bytes that have crossed since the last call, by the exchange's name, in both directions."""
    traffic: dict[str, int] = {}
    for tower in towers:
        for name, buffers in zip(tower.net.names, tower.layers, strict=True):
            if isinstance(buffers, ExchangeBuffers):
                traffic[name] = traffic.get(name, 0) + buffers.moved
                buffers.moved = 0
    return traffic


def _half(whole: Array, tower: int) -> Array:
    """The first or the second half of the channels or features: a view."""
    size = whole.shape[0] // 2
    return whole[tower * size : (tower + 1) * size]
