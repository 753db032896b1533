"""Arrays of the device under test and copies between them; test_device.py needs no GPU."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import target
from helpers.target import DEVICE
from pyalexnet import device as devices
from pyalexnet import ops

#: The second device, or the only one.
OTHER = devices.get(target.NAMES[-1])


def test_zeros_are_zeros():
    for shape, dtype in (((1000,), np.float32), ((3, 0), np.uint8), ((2, 3, 5), np.float64)):
        zeros = DEVICE.download(DEVICE.zeros(shape, dtype))
        assert (zeros.shape, zeros.dtype) == (shape, dtype)
        assert not zeros.any()


def test_upload_and_download_copy():
    source = np.arange(6, dtype=np.int64).reshape(2, 3).T  # not contiguous
    expected = source.copy()
    array = DEVICE.upload(source)
    source[0, 0] = 99
    copy = DEVICE.download(array)
    assert (copy.dtype, copy.flags.c_contiguous) == (np.int64, True)
    np.testing.assert_array_equal(copy, expected)
    copy[0, 0] = 98
    np.testing.assert_array_equal(DEVICE.download(array), expected)


def test_copy_in_converts_and_never_broadcasts():
    out = DEVICE.zeros((2, 3))
    DEVICE.copy_in(out, np.arange(6.0).reshape(2, 3))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        DEVICE.copy_in(out, np.zeros(3))
    np.testing.assert_array_equal(DEVICE.download(out), [[0, 1, 2], [3, 4, 5]])


def test_placed_arrays_are_what_kernels_read():
    buffer = DEVICE.empty((5, 2))
    for count in (3, 5):
        host = np.arange(2.0 * count, dtype=np.float32).reshape(count, 2)
        placed = DEVICE.place(host, buffer)
        np.testing.assert_array_equal(DEVICE.download(ops.add(placed, placed)), 2 * host)


def test_images_are_padded_to_the_multiple():
    multiple = DEVICE.images_multiple
    assert [DEVICE.pad_images(n) for n in (1, multiple, multiple + 1)] == [
        multiple,
        multiple,
        2 * multiple,
    ]


def test_a_name_gives_one_device_that_its_arrays_know():
    assert devices.get(target.NAME) is DEVICE
    assert devices.of(DEVICE.zeros((3,))) is DEVICE
    assert devices.of(OTHER.zeros((3,))) is OTHER


@pytest.mark.parametrize("recorded", [False, True])
def test_copy_from_waits_for_earlier_work_and_later_work_waits_for_it(recorded):
    ones = np.ones(10_000, np.float32)
    source, out, total = OTHER.upload(ones), DEVICE.upload(ones), DEVICE.empty(ones.shape)
    for _ in range(5):
        ops.add(source, source, out=source)
    ops.add(out, out, out=total)  # must have read `out` before the copy
    events = (DEVICE.record_event(), OTHER.record_event()) if recorded else (None, None)
    DEVICE.copy_from(out, source, OTHER, wait_for=events)
    OTHER.copy_in(source, 7 * ones)
    twice = ops.add(out, out)
    np.testing.assert_array_equal(DEVICE.download(twice), 64 * ones)
    np.testing.assert_array_equal(DEVICE.download(total), 2 * ones)
    np.testing.assert_array_equal(OTHER.download(source), 7 * ones)


def test_pinned_memory_is_copied_and_overwritten_after_an_event():
    memory = np.ones(5000, np.float32)
    DEVICE.pin(memory)
    try:
        out = DEVICE.empty(memory.shape)
        DEVICE.copy_in(out, memory)
        DEVICE.wait(DEVICE.record_event())
        memory[...] = 2
        np.testing.assert_array_equal(DEVICE.download(out), np.ones(5000))
        DEVICE.synchronize()
    finally:
        DEVICE.unpin(memory)


def test_memory_in_use_is_part_of_its_peak():
    array = DEVICE.upload(np.ones(1 << 20, np.float32))
    assert DEVICE.peak_memory() >= array.nbytes
