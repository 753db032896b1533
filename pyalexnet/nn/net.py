"""Nets as data: a graph of layers.

A net is a name, the size of its input and a tuple of layers in the order in which they run. A layer
reads the layer before it, or those that it names::

    from pyalexnet import Net
    from pyalexnet.nn.layers import Add, Conv, Linear, MaxPool

    net = Net("mine", input=(3, 32, 32), layers=(
        Conv(32, 5, pad=2), MaxPool(name="trunk"),
        Conv(32, 3, pad=1), Conv(32, 3, pad=1, activation="", name="branch"),
        Add("relu", inputs=("trunk", "branch")),
        Linear(10, activation=""),
    ))
    open("mine.json", "w").write(net.to_json())
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from reprlib import repr  # bounded, as a file may hold anything
from typing import Any

from pyalexnet.device import Shape
from pyalexnet.errors import NetError
from pyalexnet.files import parse_json
from pyalexnet.nn.layers import (
    KINDS,
    Conv,
    Layer,
    Linear,
    Parameter,
    SoftmaxCrossEntropy,
    TensorSpec,
)
from pyalexnet.nn.layers.base import check_count
from pyalexnet.nn.normalization import Normalization
from pyalexnet.text import printable, shortened

INPUT = "input"
#: The keys of `Net.training`.
TRAINING = ("epochs", "lr", "bias-lr", "batch-size", "schedule", "warmup")
_DEFAULT, _LOSS = Normalization(), SoftmaxCrossEntropy()
#: Rows of an input, and numbers in a row, are at most so many (csrc/ops/augment.cu).
_MOST_ROWS, _MOST_ACROSS = 65535, 2**30 - 1
_DEEPEST = 10_000  # layers of a net in a file
_LONGEST = 200  # letters of a net's name in a file, and of a list of names in messages
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_/-]*")


@dataclass(frozen=True)
class Net:
    """A net as data; equal nets compare equal.

    Attributes
    ----------
    name : str
        Appears in messages and tables.
    input : (C, H, W)
        Channels, rows and columns of the input.
    layers : tuple of Layer
        The last one gives the logits: Linear without activation.
    normalization : Normalization
        How the input is made of pixels.
    loss : SoftmaxCrossEntropy
        Reads the logits and the labels.
    training : mapping
        How to train this net where the user does not say: `epochs`, `lr`, `bias-lr`, `batch-size`,
        `schedule` and `warmup`, as the options of pyalexnet-train. Nets that differ in it alone
        are equal.

    Raises
    ------
    NetError
        A layer cannot have the inputs that it gets; the message names the layer.
    """

    name: str
    input: tuple[int, int, int]
    layers: tuple[Layer, ...]
    normalization: Normalization = _DEFAULT
    loss: SoftmaxCrossEntropy = _LOSS
    training: Mapping[str, int | float | str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        ok = len(self.input) == 3 and all(type(n) is int and n > 0 for n in self.input)
        if not ok:
            raise NetError(
                f"net {self.name}: input is {repr(self.input)}; expected channels, rows and "
                "columns from 1"
            )
        channels, rows, columns = self.input
        if rows > _MOST_ROWS or columns * channels > _MOST_ACROSS:
            raise NetError(
                f"net {self.name}: input is {repr(self.input)}; expected at most {_MOST_ROWS} "
                f"rows, of at most {_MOST_ACROSS} numbers"
            )
        try:
            self.normalization.check(self.input[0])
        except NetError as error:
            raise NetError(f"net {self.name}: {error}") from None
        unknown = self.training.keys() - set(TRAINING)
        if unknown:
            raise NetError(
                f"net {self.name}: training has {repr(sorted(unknown)[0])}; expected some of "
                f"{', '.join(TRAINING)}"
            )
        if not self.layers:
            raise NetError(f"net {self.name}: layers is empty; expected at least one")
        self._check_names()
        self._check_use()
        self.shapes()
        self._check_state()
        self._check_last()

    def _check_names(self) -> None:
        for number, layer in enumerate(self.layers, 1):
            if not isinstance(layer.name, str) or (layer.name and not _NAME.fullmatch(layer.name)):
                raise NetError(
                    f"net {self.name}, layer {number}: name is {repr(layer.name)}; expected "
                    "letters, digits, _, / and -, not a digit first"
                )
        count = Counter(self.names)
        for name, layer in zip(self.names, self.layers, strict=True):
            if layer.name == INPUT or (layer.name and count[name] > 1):
                raise NetError(f"net {self.name}: two layers are called {name}; expected one")

    def _check_use(self) -> None:
        read = {value for sources in self.sources for value in sources}
        for value, name in enumerate((INPUT, *self.names[:-1])):
            if value not in read:
                raise NetError(f"net {self.name}: no layer reads {name}; expected one that does")

    def _check_state(self) -> None:
        count = Counter(self.names)
        for i, (name, layer) in enumerate(zip(self.names, self.layers, strict=True)):
            shapes = self.input_shapes(i)
            has_state = layer.parameters(*shapes) or layer.buffers(*shapes)
            if has_state and count[name] > 1:
                raise NetError(f"net {self.name}: two layers are called {name}; expected one")

    def _check_last(self) -> None:
        last = self.layers[-1]
        if not isinstance(last, Linear) or last.activation:
            raise NetError(
                f"net {self.name}, layer {self.names[-1]}: the last layer is {last}; expected "
                "Linear with activation '', which gives the logits"
            )

    @property
    def has_loss(self) -> bool:
        """Whether the last layer gives the logits; not so in one of two towers."""
        return True

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.shapes()[-1][0])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The layers' names.

        By default, layers with weights are conv1, conv2, …, fc6, … by their rank among the layers
        with weights; others have the number of the last such layer before them: lrn1, pool1.
        """
        names, rank = [], 0
        for layer in self.layers:
            rank += isinstance(layer, Conv | Linear)
            names.append(layer.name or f"{layer.prefix}{rank}")
        return tuple(names)

    @cached_property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """For each layer, the values that it reads: 0 is the input, i + 1 the output of layer i."""
        values: dict[str, list[int]] = {INPUT: [0]}  # by name, those that layers before have made
        found = []
        for index, layer in enumerate(self.layers):
            found.append(self._sources(index, layer, values))
            values.setdefault(self.names[index], []).append(index + 1)
        return tuple(found)

    def _sources(
        self, index: int, layer: Layer, values: Mapping[str, list[int]]
    ) -> tuple[int, ...]:
        if not layer.inputs:
            return (index,)
        for name in layer.inputs:
            if len(values.get(name, ())) != 1:
                problem = "several layers have it" if name in values else "no layer before has it"
                raise NetError(
                    f"net {self.name}, layer {self.names[index]}: an input is {repr(name)}, but "
                    f"{problem}; expected some of {shortened(', '.join(values), _LONGEST)}"
                )
        return tuple(values[name][0] for name in layer.inputs)

    def shapes(self) -> tuple[Shape, ...]:
        """The input's shape, then that of every layer's output, without the images."""
        return self._shapes

    @cached_property
    def _shapes(self) -> tuple[Shape, ...]:
        shapes: list[Shape] = [self.input]
        for name, layer, sources in zip(self.names, self.layers, self.sources, strict=True):
            try:
                shape = layer.output_shape(*(shapes[source] for source in sources))
                check_count(layer, "an extent of its output", max(shape))
                shapes.append(shape)
            except NetError as error:
                raise NetError(f"net {self.name}, layer {name}: {error}") from None
        return tuple(shapes)

    def input_shapes(self, index: int) -> tuple[Shape, ...]:
        """The shapes of what a layer reads."""
        return tuple(self.shapes()[source] for source in self.sources[index])

    def layer_parameters(self) -> Iterator[tuple[str, dict[str, Parameter]]]:
        """Each layer's name and its parameters, such as "weight" and "bias"."""
        for i, (name, layer) in enumerate(zip(self.names, self.layers, strict=True)):
            yield name, layer.parameters(*self.input_shapes(i))

    def parameters(self) -> dict[str, Parameter]:
        """All parameters in the net's order: "conv1.weight", "conv1.bias", …"""
        return {
            f"{layer}.{kind}": parameter
            for layer, parameters in self.layer_parameters()
            for kind, parameter in parameters.items()
        }

    def buffers(self) -> dict[str, TensorSpec]:
        """All tensors that are not learnt but belong to the net's state."""
        return {
            f"{name}.{kind}": buffer
            for i, (name, layer) in enumerate(zip(self.names, self.layers, strict=True))
            for kind, buffer in layer.buffers(*self.input_shapes(i)).items()
        }

    def to_json(self) -> str:
        """The net as JSON, with every value but default names and inputs; see `from_json`."""
        head = {
            "name": self.name,
            "input": self.input,
            "normalization": dataclasses.asdict(self.normalization),
        }
        if self.training:
            head["training"] = dict(self.training)
        lines = ",\n".join(f"    {json.dumps(_entry_of(layer))}" for layer in self.layers)
        return f'{json.dumps(head)[:-1]}, "layers": [\n{lines}\n]}}\n'

    @staticmethod
    def from_json(text: str) -> Net:
        """The net that `text` describes; values left out have their defaults (docs/nets.md).

        Raises
        ------
        NetError
            `text` is not JSON, or not a possible net; the message says where.
        """
        return Net.from_value(parse_json(text, "net", NetError))

    @staticmethod
    def from_value(data: Any) -> Net:
        """As `from_json`, of the JSON text's value."""
        fields = {"name", "input", "layers", "normalization", "training"}
        if not isinstance(data, dict) or not {"input", "layers"} <= data.keys() <= fields:
            raise NetError(
                f"not a net in JSON: it is {repr(data)}; expected an object of {sorted(fields)}"
            )
        inputs, layers, training = data["input"], data["layers"], data.get("training", {})
        name = data.get("name", "unnamed")
        if not isinstance(name, str) or not name.isprintable() or len(name) > _LONGEST:
            raise NetError(
                f"not a net in JSON: name is {repr(name)}; expected at most {_LONGEST} printable "
                "characters"
            )
        if not isinstance(training, dict):
            raise NetError(f"not a net in JSON: training is {repr(training)}; expected an object")
        for what, value in (("input", inputs), ("layers", layers)):
            if not isinstance(value, list):
                raise NetError(f"not a net in JSON: {what} is {repr(value)}; expected a list")
        if len(layers) > _DEEPEST:
            raise NetError(f"net {name}: {len(layers)} layers; expected at most {_DEEPEST}")
        return Net(
            name=name,
            input=tuple(inputs),
            layers=tuple(_layer_of(number, entry) for number, entry in enumerate(layers, 1)),
            normalization=_normalization_of(data.get("normalization", {})),
            training=training,
        )


def _entry_of(layer: Layer) -> dict[str, Any]:
    values = dataclasses.asdict(layer)
    head = {"layer": type(layer).__name__}
    head |= {key: value for key in ("name", "inputs") if (value := values.pop(key))}
    return head | values


def _layer_of(number: int, entry: Any) -> Layer:
    if not isinstance(entry, dict) or str(entry.get("layer")) not in KINDS:
        raise NetError(
            f"layer {number} is {repr(entry)}; "
            f'expected an object whose "layer" is one of {", ".join(KINDS)}'
        )
    kind = KINDS[entry["layer"]]
    arguments = {key: value for key, value in entry.items() if key != "layer"}
    names = arguments.get("inputs", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise NetError(
            f"layer {number}, {kind.__name__}: inputs is {repr(names)}; "
            "expected a list of layers' names"
        )
    arguments["inputs"] = tuple(names)
    try:
        return kind(**arguments)
    except TypeError as error:  # missing and unknown names
        raise NetError(f"layer {number}, {kind.__name__}: {printable(str(error))[:200]}") from None
    except NetError as error:
        raise NetError(f"layer {number}, {error}") from None


def _normalization_of(entry: Any) -> Normalization:
    if not isinstance(entry, dict) or not entry.keys() <= {"mean", "scale"}:
        raise NetError(
            f"not a net in JSON: normalization is {repr(entry)}; expected an object of mean and "
            "scale"
        )
    lists = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    return Normalization(**lists)
