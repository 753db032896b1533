"""The supported data sets, one module each, and their registry.

=============  ==============================================================
`SOURCES`      the sources that `data.open_dataset` and `--data` accept
`find_source`  parses a specification, and finds out a folder's kind
`shapes`       the built-in synthetic set
`idx`          MNIST and Fashion-MNIST
`cifar10`      CIFAR-10
`folder`       image files, one folder per class (`image_files` finds them)
`shards`       the output of pyalexnet-prepare
=============  ==============================================================

To add a source: a module here, an entry in `SOURCES`, a test in tests/data, and a line in README.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pyalexnet.data.dataset import Dataset
from pyalexnet.data.sources import cifar10, folder, idx, shapes, shards
from pyalexnet.data.sources.image_files import entries, is_folder, listed
from pyalexnet.errors import DataError
from pyalexnet.files import expanded


class Request(NamedTuple):
    """The arguments of `data.open_dataset`."""

    path: Path  #: the data set's folder
    size: int | None
    skip_bad: bool
    seed: int
    val_share: float | None


class Source(NamedTuple):
    """A supported data set."""

    name: str
    open: Callable[[Request], Dataset]
    files: str  #: contents of its folder; "" if it needs none
    recognises: Callable[[Path], bool]  #: whether a folder contains that
    resizes: bool = False  #: whether images have no size of their own: they are always resized
    may_resize: bool = False  #: whether images are resized on request
    skips: bool = False  #: whether unreadable images can be skipped
    default_net: str = "small"

    @property
    def form(self) -> str:
        """Form of its specification: "mnist:DIR"."""
        return f"{self.name}:DIR" if self.files else self.name


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            "shapes",
            lambda asked: shapes.open_shapes(asked.seed),
            "",
            lambda path: False,
            may_resize=True,
        ),
        Source(
            "mnist",
            lambda asked: idx.open_mnist(asked.path),
            idx.FILES,
            idx.is_idx,
            may_resize=True,
        ),
        Source(
            "fashion-mnist",
            lambda asked: idx.open_fashion_mnist(asked.path),
            idx.FILES,
            idx.is_fashion,
            may_resize=True,
        ),
        Source(
            "cifar10",
            lambda asked: cifar10.open_cifar10(asked.path),
            cifar10.FILES,
            cifar10.is_cifar10,
            may_resize=True,
        ),
        Source(
            "folder",
            lambda asked: folder.open_folder(
                asked.path, size=asked.size, skip_bad=asked.skip_bad, val_share=asked.val_share
            ),
            folder.FILES,
            folder.is_folder_of_images,
            resizes=True,
            may_resize=True,
            skips=True,
        ),
        Source(
            "imagenet",
            lambda asked: shards.open_imagenet(asked.path),
            shards.FILES,
            shards.is_prepared,
            default_net="alexnet",
        ),
    )
}


def find_source(spec: str) -> tuple[Source, Path | None]:
    """Returns the source that a specification names, and its folder if it needs one.

    A name of a source comes before a folder of that name.

    Raises
    ------
    DataError
        There is no such source or folder, the folder holds data of no source or of several, or a
        source's folder is missing or not expected.
    """
    name, colon, place = spec.partition(":")
    source = SOURCES.get(name)
    if source is not None and source.files and place:
        return source, expanded(place)
    if source is not None and not source.files and not colon:
        return source, None
    path = expanded(spec)
    if spec and os.path.isdir(path):  # False, too, where there can be no such path
        return _recognised(path), path
    found = ", a file" if os.path.isfile(path) else ", no folder here" * (source is None)
    raise DataError(f"data is {spec!r}{found}; expected {describe_sources()}")


def describe_sources() -> str:
    """Returns the forms of specifications: "shapes, DIR, mnist:DIR, … or imagenet:DIR"."""
    names = [source.form for source in SOURCES.values() if not source.files]
    *others, last = (source.form for source in SOURCES.values() if source.files)
    return f"{', '.join([*names, 'DIR', *others])} or {last}"


def _recognised(path: Path) -> Source:
    """The source whose data a folder holds."""
    found = [source for source in SOURCES.values() if source.recognises(path)]
    if len(found) == 1:
        return found[0]
    if found:
        kinds = " and ".join(source.name for source in found)
        forms = " or ".join(f"{source.name}:{path}" for source in found)
        raise DataError(f"data {path}: holds {kinds}; expected one of them: give {forms}")
    needs = [f"\n  {source.form}: {source.files}" for source in SOURCES.values() if source.files]
    raise DataError(f"data {path}: holds {_contents(path)}; expected one of{''.join(needs)}")


def _contents(path: Path) -> str:
    """What a folder holds, in a few words: "cat/ (*.heic), notes.txt and 3 more"."""
    found = entries(path)
    # Folders first: they tell more.
    found.sort(key=lambda entry: not is_folder(entry))
    names = [
        f"{entry.name}/{_endings(path / entry.name)}" if is_folder(entry) else entry.name
        for entry in found[:3]
    ]
    return listed(names, len(found)) if found else "nothing"


def _endings(path: Path) -> str:
    """The endings of a folder's files: " (*.heic, *.txt)"."""
    files = [Path(entry.name).suffix for entry in entries(path) if not is_folder(entry)]
    found = sorted({f"*{ending}" for ending in files if ending})
    return f" ({listed(found, len(found))})" if found else ""
