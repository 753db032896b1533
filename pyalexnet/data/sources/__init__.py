"""The supported data sets, one module each, and their registry.

=============  ==============================================================
`SOURCES`      the sources that `data.open_dataset` and `--data` accept
`find_source`  parses a specification
`shapes`       the built-in synthetic set
`idx`          MNIST and Fashion-MNIST
`cifar10`      CIFAR-10
`folder`       JPEG and PNG files, one folder per class
`shards`       the output of pyalexnet-prepare
=============  ==============================================================

To add a source: a module here, an entry in `SOURCES`, a test in tests/data, and a line in README.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pyalexnet.data.dataset import Dataset
from pyalexnet.data.sources import cifar10, folder, idx, shapes, shards
from pyalexnet.errors import DataError


class Request(NamedTuple):
    """The arguments of `data.open_dataset`."""

    path: Path  #: the data set's folder
    size: int | None
    skip_bad: bool
    seed: int


class Source(NamedTuple):
    """A supported data set."""

    name: str
    open: Callable[[Request], Dataset]
    files: str  #: contents of its folder; "" if it needs none
    resizes: bool = False  #: whether images are resized to the requested size
    skips: bool = False  #: whether unreadable images can be skipped
    default_net: str = "small"

    @property
    def form(self) -> str:
        """Form of its specification: "mnist:DIR"."""
        return f"{self.name}:DIR" if self.files else self.name


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source("shapes", lambda asked: shapes.open_shapes(asked.seed), ""),
        Source("mnist", lambda asked: idx.open_mnist(asked.path), idx.FILES),
        Source("fashion-mnist", lambda asked: idx.open_fashion_mnist(asked.path), idx.FILES),
        Source("cifar10", lambda asked: cifar10.open_cifar10(asked.path), cifar10.FILES),
        Source(
            "folder",
            lambda asked: folder.open_folder(asked.path, size=asked.size, skip_bad=asked.skip_bad),
            folder.FILES,
            resizes=True,
            skips=True,
        ),
        Source(
            "imagenet",
            lambda asked: shards.open_imagenet(asked.path),
            shards.FILES,
            default_net="alexnet",
        ),
    )
}


def find_source(spec: str) -> tuple[Source, Path | None]:
    """Returns the source that a specification names, and its folder if it needs one.

    Raises
    ------
    DataError
        The source is unknown, or its folder is missing or not expected.
    """
    name, _, place = spec.partition(":")
    source = SOURCES.get(name)
    if source is None or bool(place) != bool(source.files) or (":" in spec and not place):
        raise DataError(f"data is {spec!r}; expected {describe_sources()}")
    return source, Path(place).expanduser() if place else None


def describe_sources() -> str:
    """Returns the forms of specifications: "shapes, mnist:DIR, … or imagenet:DIR"."""
    *others, last = (source.form for source in SOURCES.values())
    return f"{', '.join(others)} or {last}"
