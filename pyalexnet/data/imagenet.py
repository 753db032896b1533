"""ILSVRC2012's classes: which images have which label."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.devkit import Devkit
from pyalexnet.data.listing import Group, LeftOut, Listing, Names, Source, printable
from pyalexnet.errors import DataError

_STRAY = "lies in no class folder"


@dataclass(frozen=True)
class ImageNet:
    """Classes and images in the order in which they are stored.

    Attributes
    ----------
    classes : list of dict
        "wnid", and "words" and "id" (ILSVRC2012_ID) where there is a devkit; the label is the rank
        of the sorted WNID.
    train, val : Listing
        By class and name; by name alone, which is the order of the ground truth.
    left_out : list of (split, LeftOut)
    notes : list of str
        What a user may want to know.
    """

    classes: list[dict[str, Any]]
    train: Listing
    val: Listing
    left_out: list[tuple[str, LeftOut]]
    notes: list[str]


def assemble(train: Source, val: Source, devkit: Devkit | None) -> ImageNet:
    """Give every image its label.

    Raises
    ------
    DataError
        Training images, validation images and devkit do not belong together.
    """
    classes = _classes(train, devkit)
    names = [entry["wnid"] for entry in classes]
    flat = set(val.groups) == {""}
    left_out = [("train", item) for item in _left_out(train)]
    left_out += [("val", item) for item in _left_out(val, flat)]
    val_images = _flat(val, names, devkit) if flat else _by_name(_in_classes(val, names))
    notes = [] if devkit is None else _notes(train, devkit)
    return ImageNet(classes, _in_classes(train, names), val_images, left_out, notes)


def _left_out(source: Source, flat: bool = False) -> list[LeftOut]:
    found = [*source.left_out, *(item for g in source.groups.values() for item in g.left_out)]
    if "" in source.groups and not flat:
        names = source.groups[""].names
        found += [LeftOut(printable(os.fsdecode(name)), _STRAY) for name in names]
    return found


def _classes(train: Source, devkit: Devkit | None) -> list[dict[str, Any]]:
    found = sorted(set(train.groups) - {""})
    if not found:
        raise DataError(
            f"{train.place}: no classes; expected a tar or a folder for each, such as "
            f"n01440764.tar or n01440764/"
        )
    if devkit is None:
        return [{"wnid": wnid} for wnid in found]
    leaves = [synset.wnid for synset in devkit.synsets]
    _same(train, found, leaves, "the devkit")
    return [{"wnid": s.wnid, "words": s.words, "id": s.id} for s in devkit.synsets]


def _same(source: Source, found: list[str], expected: list[str], whose: str) -> None:
    if found != expected:
        odd = sorted(set(found) ^ set(expected))
        where = "the former" if odd[0] in found else whose
        raise DataError(
            f"{source.place}: has {len(found)} classes, but {whose} {len(expected)}; {len(odd)} "
            f"are in one only, such as {odd[0]!r} in {where}; expected the same"
        )


def _in_classes(source: Source, names: list[str]) -> Listing:
    _same(source, sorted(set(source.groups) - {""}), names, "the training images")
    groups = [source.groups[name] for name in names]
    for name, group in zip(names, groups, strict=True):
        if not len(group.names):
            raise DataError(f"{source.place}: no image in class {name}")
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
            f"{val.place}: its images lie in no class folders, so their classes are to be found in "
            f"the devkit only; expected --devkit"
        )
    if len(devkit.truth) != len(group.names):
        raise DataError(
            f"{val.place}: {len(group.names):,} images, but the devkit's ground truth has "
            f"{len(devkit.truth):,} lines; expected a line for each image, in order of the names"
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
        f"{len(odd)} of {len(counts)} classes have more or fewer training images than the devkit "
        f"says, such as {synset.wnid}: {count:,}, not {synset.train_images:,}"
    ]
