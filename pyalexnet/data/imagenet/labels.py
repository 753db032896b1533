"""ILSVRC2012's classes and the labels of its images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.imagenet.devkit import Devkit
from pyalexnet.data.imagenet.listing import Group, Listing, Names, Skipped, Source
from pyalexnet.errors import DataError
from pyalexnet.text import printable

_STRAY = "not in a class folder"


@dataclass(frozen=True)
class ImageNet:
    """Classes and images, in the order in which they are stored.

    Attributes
    ----------
    classes : list of dict
        "wnid"; with a devkit also "words" and "id" (ILSVRC2012_ID). The label is the rank of the
        sorted WNID.
    train, val : Listing
        Training images are sorted by class and name, validation images by name, which is the order
        of the ground truth.
    skipped : list of (split, Skipped)
    notes : list of str
        Messages for the user.
    """

    classes: list[dict[str, Any]]
    train: Listing
    val: Listing
    skipped: list[tuple[str, Skipped]]
    notes: list[str]


def assemble(train: Source, val: Source, devkit: Devkit | None) -> ImageNet:
    """Assigns a label to every image.

    Raises
    ------
    DataError
        Training images, validation images and devkit do not match.
    """
    classes = _classes(train, devkit)
    names = [entry["wnid"] for entry in classes]
    flat = set(val.groups) == {""}
    skipped = [("train", item) for item in _skipped(train)]
    skipped += [("val", item) for item in _skipped(val, flat)]
    val_images = _flat(val, names, devkit) if flat else _by_name(_in_classes(val, names))
    notes = [] if devkit is None else _notes(train, devkit)
    return ImageNet(classes, _in_classes(train, names), val_images, skipped, notes)


def _skipped(source: Source, flat: bool = False) -> list[Skipped]:
    found = [*source.skipped, *(item for g in source.groups.values() for item in g.skipped)]
    if "" in source.groups and not flat:
        names = source.groups[""].names
        found += [Skipped(printable(os.fsdecode(name)), _STRAY) for name in names]
    return found


def _classes(train: Source, devkit: Devkit | None) -> list[dict[str, Any]]:
    found = sorted(set(train.groups) - {""})
    if not found:
        raise DataError(
            f"{train.place}: number of classes is 0; expected one archive or folder per class, "
            f"such as n01440764.tar or n01440764/"
        )
    if devkit is None:
        return [{"wnid": wnid} for wnid in found]
    leaves = [synset.wnid for synset in devkit.synsets]
    _same(train, found, leaves, "the devkit")
    return [{"wnid": s.wnid, "words": s.words, "id": s.id} for s in devkit.synsets]


def _same(source: Source, found: list[str], expected: list[str], whose: str) -> None:
    if found != expected:
        odd = sorted(set(found) ^ set(expected))
        where = "here" if odd[0] in found else f"in {whose}"
        more = f" (and {len(odd) - 1} more)" * (len(odd) > 1)
        raise DataError(
            f"{source.place}: {len(found)} classes, of which {odd[0]!r} is only {where}{more}; "
            f"expected the same {len(expected)} as in {whose}"
        )


def _in_classes(source: Source, names: list[str]) -> Listing:
    _same(source, sorted(set(source.groups) - {""}), names, "the training images")
    groups = [source.groups[name] for name in names]
    for name, group in zip(names, groups, strict=True):
        if not len(group.names):
            raise DataError(
                f"{source.place}: number of images in class {name} is 0; expected at least 1"
            )
    labels = np.repeat(np.arange(len(names)), [len(group.names) for group in groups])
    prefixed = [
        Names(os.fsencode(f"{name}/") + image for image in group.names)
        for name, group in zip(names, groups, strict=True)
    ]
    return _listing(source, Names.joined(prefixed), labels, groups)


def _listing(
    source: Source, names: Names, labels: NDArray[np.integer], groups: list[Group]
) -> Listing:
    offsets = np.concatenate([group.offsets for group in groups])
    sizes = np.concatenate([group.sizes for group in groups])
    return Listing(source.place, names, labels.astype(np.int32), offsets, sizes)


def _by_name(images: Listing) -> Listing:
    keys = [name.rpartition(b"/")[2] for name in images.names]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    names = Names(images.names[i] for i in order.tolist())
    return Listing(
        images.place, names, images.labels[order], images.offsets[order], images.sizes[order]
    )


def _flat(val: Source, names: list[str], devkit: Devkit | None) -> Listing:
    group = val.groups[""]
    if devkit is None:
        raise DataError(
            f"{val.place}: images are not in class folders; expected --devkit, which has their "
            f"classes"
        )
    if len(devkit.truth) != len(group.names):
        raise DataError(
            f"{val.place}: number of images is {len(group.names):,}; expected "
            f"{len(devkit.truth):,}, one per line of the devkit's ground truth"
        )
    ranks = {synset.id: names.index(synset.wnid) for synset in devkit.synsets}
    labels = np.array([ranks[number] for number in devkit.truth.tolist()], np.int32)
    return _listing(val, group.names, labels, [group])


def _notes(train: Source, devkit: Devkit) -> list[str]:
    counts = [(s, len(train.groups[s.wnid].names)) for s in devkit.synsets]
    odd = [(synset, count) for synset, count in counts if count != synset.train_images]
    if not odd:
        return []
    synset, count = odd[0]
    return [
        f"{len(odd)} of {len(counts)} classes have more or fewer training images than in the "
        f"devkit, such as {synset.wnid}: {count:,}, not {synset.train_images:,}"
    ]
