"""What every kernel refuses: overlapping arrays, odd interfaces, impossible numbers."""

from __future__ import annotations

import contextlib
import itertools
import re
from typing import Any

import numpy as np
import pytest

from helpers import target
from helpers.calls import CALLS, INTERFACE, Interface, N, Spec, place, run
from pyalexnet import ops

REFUSED = (ValueError, TypeError, OverflowError)
KERNELS = pytest.mark.parametrize("kernel", CALLS)


def test_every_kernel_is_here():
    kernels = type(target.DEVICE.kernels)
    bound = {name for name in dir(kernels) if not name.startswith("_")}
    assert bound == {*CALLS, "conv_plan"}


# Overlap


@KERNELS
def test_arrays_side_by_side_are_taken(kernel):
    call = CALLS[kernel]
    run(kernel, place(call) | call.options)


@KERNELS
def test_a_result_may_not_overlap_another_array(kernel):
    call = CALLS[kernel]
    for result, other in itertools.product(call.results, call.arrays):
        if other == result:
            continue
        begin = 1 << 17  # away from the others
        last = (call.arrays[result].nbytes - 1) // 16 * 16  # the last place to overlap
        for offset in {0, last}:
            moved = {result: begin, other: begin + offset}
            arguments = place(call, moved) | call.options
            if (result, other) in call.in_place and offset == 0:
                run(kernel, arguments)
                continue
            pair = f"({result} overlaps {other}|{other} overlaps {result}) in memory"
            with pytest.raises(ValueError, match=pair):
                run(kernel, arguments)


@KERNELS
def test_inputs_may_overlap(kernel):
    call = CALLS[kernel]
    inputs = [name for name in call.arrays if name not in call.results]
    for one, other in itertools.combinations(inputs, 2):
        if "starts" not in (one, other):  # whose contents the host looks at
            moved = {one: 1 << 17, other: 1 << 17}
            run(kernel, place(call, moved) | call.options)


def test_ops_refuse_an_output_that_is_an_input():
    at = target.DEVICE
    x, w = at.zeros((3, 4, 4, N)), at.zeros((3, 3, 3, 3))
    with pytest.raises(ValueError, match=r"y overlaps x in memory; expected arrays apart$"):
        ops.conv_forward(x, w, pad=1, out=x)
    flat = at.zeros((65,))
    message = "y overlaps a in memory; expected arrays apart, or y to be a or b"
    with pytest.raises(ValueError, match=message):
        ops.add(flat[:61], flat[:61], out=flat[4:])


FLAT = np.zeros((3, N), np.float32)
MAP = np.zeros((3, 4, 4, N), np.float32)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("conv_forward", (FLAT, MAP), "x has shape"),
        ("conv_forward", (MAP, FLAT), "w has shape"),
        ("conv_forward", (MAP, np.zeros((3, 5, 1, 2), np.float32)), "x has shape .* 5 x 1 pixels"),
        ("linear_forward", (MAP, FLAT), "x has shape"),
        ("linear_forward", (FLAT, FLAT[0]), "w has shape"),
        ("linear_backward_data", (FLAT[0], FLAT), "dy has shape"),
        ("linear_backward_weights", (FLAT[0], FLAT), "x has shape"),
        ("bias_backward", (FLAT[0, 0:0],), "dy has shape"),
        ("augment", (np.zeros(3, np.uint8), FLAT, FLAT, FLAT), "images has shape"),
    ],
)
def test_ops_name_an_array_of_too_few_dimensions(function, arguments, message):
    arrays = [target.DEVICE.upload(array) for array in arguments]
    more = {"size": (2, 2)} if function == "augment" else {}
    with pytest.raises(ValueError, match=f"^{message}"):
        getattr(ops, function)(*arrays, **more)


def test_ops_name_an_input_too_small_to_pool():
    with pytest.raises(ValueError, match=r"^x has shape .* at least the window's 5 x 5 pixels"):
        ops.maxpool_forward(target.DEVICE.upload(MAP), size=5, stride=1)


def test_empty_arrays_overlap_nothing():
    at = target.DEVICE
    memory = at.zeros((64,))
    ops.add(memory[32:32], memory[32:32], out=memory[32:32])


# Interfaces

ODD: dict[str, dict[str, Any]] = {
    "no version": {"version": None},
    "another version": {"version": 99},
    "a negative version": {"version": -1},
    "a version of more than 64 bits": {"version": 1 << 100},
    "a version that is text": {"version": "3"},
    "no type": {"typestr": None},
    "a type of bytes": {"typestr": b"<f4"},
    "a type of half a character": {"typestr": "\ud800"},
    "another type": {"typestr": ">f4"},
    "no shape": {"shape": None},
    "a shape that is a list": {"shape": [4]},
    "a shape that is a number": {"shape": 4},
    "a shape of floats": {"shape": (4.0,)},
    "a negative extent": {"shape": (-4,)},
    "extents whose product is negative": {"shape": (-4, -4)},
    "an extent of more than 64 bits": {"shape": (1 << 100,)},
    "more than 2^63 elements": {"shape": (1 << 62, 4)},
    "2^64 elements, which is 0": {"shape": (1 << 32, 1 << 32)},
    "2^62 elements": {"shape": (1 << 62,)},
    "no elements, but too many": {"shape": (0, 1 << 62, 1 << 62)},
    "a thousand axes": {"shape": (1,) * 1000},
    "no data": {"data": None},
    "data that are a number": {"data": 4096},
    "data without a flag": {"data": (4096,)},
    "data of three": {"data": (4096, False, 0)},
    "an address that is text": {"data": ("4096", False)},
    "a flag that is text": {"data": (4096, "")},
    "a negative address": {"data": (-4096, False)},
    "an address of more than 64 bits": {"data": (1 << 70, False)},
    "no address": {"data": (0, False)},
    "the last address": {"data": ((1 << 64) - 64, False)},
    "strides that are a number": {"strides": 4},
    "strides of text": {"strides": "4"},
    "fewer strides than axes": {"strides": ()},
    "more strides than axes": {"strides": (4,) * 9},
    "strides of floats": {"strides": (4.0,)},
    "strides of more than 64 bits": {"strides": (1 << 100,)},
    "a mask": {"mask": object()},
}


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD)
def test_an_odd_interface_is_refused(fields):
    for kernel, call in CALLS.items():
        for name in call.arrays:
            arrays = place(call)
            good = getattr(arrays[name], INTERFACE)
            arrays[name] = Interface(good | fields, arrays[name].memory)
            with pytest.raises((TypeError, ValueError), match=rf"^{name}[: ]|surrogates"):
                run(kernel, arrays | call.options)


@pytest.mark.parametrize("key", ["version", "typestr", "shape", "data"])
def test_a_field_of_the_interface_may_not_be_missing(key):
    call = CALLS["add"]
    arrays = place(call)
    del getattr(arrays["a"], INTERFACE)[key]
    with pytest.raises(TypeError, match=f"^a: {key} of its {INTERFACE} is wrong; expected"):
        run("add", arrays)


@pytest.mark.parametrize("fields", [None, 3, [], "", ("version", 3)])
def test_an_interface_is_a_dict(fields):
    arrays = place(CALLS["add"])
    with pytest.raises(TypeError, match=f"^a is Interface, whose {INTERFACE} is no dict"):
        run("add", arrays | {"a": Interface(fields)})


@KERNELS
def test_other_things_are_no_arrays(kernel):
    call = CALLS[kernel]
    for name in call.arrays:
        for thing in (3, "x", b"", [1.0], object(), type):
            with pytest.raises(ValueError, match=f"^{name} is {type(thing).__name__}; expected a"):
                run(kernel, place(call) | call.options | {name: thing})


def test_strides_of_an_empty_array_do_not_matter():
    call = CALLS["add"]
    arrays = place(call)
    for array in arrays.values():
        getattr(array, INTERFACE).update(shape=(0, 3), strides=(5, 7))
    run("add", arrays)


# Numbers

SIZES = [0, -1, *(sign + (1 << bits) for bits in (16, 30, 31, 32, 62, 63, 64) for sign in (-1, 0))]


def try_(kernel: str, arguments: dict[str, Any]) -> None:
    with contextlib.suppress(*REFUSED):
        run(kernel, arguments)


@KERNELS
def test_integers_of_any_size_are_taken_or_refused(kernel):
    call = CALLS[kernel]
    arrays = place(call)
    names = [name for name, value in call.options.items() if type(value) is int]
    for name, value in itertools.product(names, SIZES):
        try_(kernel, arrays | call.options | {name: value})
    for pair in itertools.combinations(names, 2):
        for values in itertools.product(SIZES, repeat=2):
            try_(kernel, arrays | call.options | dict(zip(pair, values, strict=True)))


def test_sizes_of_a_convolution_are_taken_or_refused():
    shapes = {"x": [4, 5, 5, N], "w": [2, 3, 3, 6], "y": [6, 3, 3, N]}
    options = {"stride": 2, "pad": 1, "groups": 2, "algorithm": ""}
    assert len(run("conv_plan", shapes | options)) == 3
    for name, value in itertools.product(("stride", "pad", "groups"), SIZES):
        try_("conv_plan", shapes | options | {name: value})
    places = [(name, axis) for name in shapes for axis in range(4)]
    for one, other in itertools.combinations(places, 2):
        for values in itertools.product(SIZES, repeat=2):
            changed = {name: list(shape) for name, shape in shapes.items()}
            for (name, axis), value in zip((one, other), values, strict=True):
                changed[name][axis] = value
            try_("conv_plan", changed | options)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (65536, "R S C is 65536 x 65536 x 1"),
        (1 << 20, "R S C is 1048576 x 1048576 x 1"),
    ],
)
def test_a_window_as_large_as_its_border_is_refused(size, message):
    shapes = {"x": [1, 8, 8, N], "w": [1, size, size, 1], "y": [1, 2, 2, N]}
    with pytest.raises(ValueError, match=message):
        run("conv_plan", shapes | {"stride": size, "pad": size, "groups": 1, "algorithm": ""})


FLOATS = [
    (kernel, name)
    for kernel, call in CALLS.items()
    for name, value in call.options.items()
    if type(value) is float and name != "p"
]


@pytest.mark.parametrize(("kernel", "name"), FLOATS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e39", "-1e300", "1e-46", "-1e-300"])
def test_numbers_that_float32_does_not_hold_are_refused(kernel, name, value):
    call = CALLS[kernel]
    number = re.escape(f"{float(value):.9g}")
    with pytest.raises(ValueError, match=rf"^{name} is {number}; expected a number that float32"):
        run(kernel, place(call) | call.options | {name: float(value)})


@pytest.mark.parametrize("value", ["nan", "inf", "1", "1e300", "-1e-300"])
def test_probabilities_are_refused(value):
    call = CALLS["dropout"]
    with pytest.raises(ValueError, match=r"^p is .*; expected at least 0 and below 1"):
        run("dropout", place(call) | call.options | {"p": float(value)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 1e-40, "beta": 0.75}, r"k is 9.99995e-41 and beta 0.75; expected k\^\(-beta - 1\)"),
        ({"k": 0.1, "beta": 100.0}, r"k is 0.1 and beta 100; expected k\^\(-beta - 1\) to be"),
        ({"alpha": 3e38, "beta": 1.0}, "alpha is 3e[+]38 and beta 1; expected 2 alpha beta to be"),
    ],
)
@pytest.mark.parametrize("kernel", ["lrn_forward", "lrn_backward"])
def test_powers_that_float32_does_not_hold_are_refused(kernel, options, message):
    call = CALLS[kernel]
    with pytest.raises(ValueError, match=message):
        run(kernel, place(call) | call.options | options)


# Grids


@pytest.mark.skipif(target.EMULATED, reason="takes the emulator minutes")
@pytest.mark.parametrize("maps", [65535, 65536, 70000])
def test_pooling_takes_more_maps_than_a_grid_has_rows(maps):
    at = target.DEVICE
    x = np.zeros((maps, 2, 1, N), np.float32)
    x[:, 1, 0, 0] = np.arange(maps)
    out, argmax = ops.maxpool_forward(at.upload(x), size=2, stride=2, pad=1)
    y = at.download(out)
    np.testing.assert_array_equal(y[:, 1, 0, 0], np.arange(maps))
    dx = ops.maxpool_backward(out, argmax, x.shape, size=2, stride=2, pad=1)
    np.testing.assert_array_equal(at.download(dx), x)


@pytest.mark.parametrize("kernel", ["conv_forward", "lrn_forward"])
def test_groups_are_no_more_than_a_grid_has_rows(kernel):
    groups = 65536
    maps, filters = Spec((groups, 1, 1, N)), Spec((1, 1, 1, groups))
    call = CALLS[kernel]
    own = {"y": maps, "x": maps, "w": filters, "b": Spec((groups,))}
    arrays = {name: own.get(name, spec) for name, spec in call.arrays.items()}
    options = call.options | {"groups": groups}
    if kernel == "conv_forward":
        options |= {"stride": 1, "pad": 0}
    with pytest.raises(ValueError, match="groups is 65536; expected at most 65535"):
        run(kernel, place(type(call)(arrays, call.results)) | options)


def test_rows_of_an_input_are_no_more_than_a_grid_has():
    call = CALLS["augment"]
    changed = call.arrays | {"x": Spec((3, 65536, 1, N))}
    with pytest.raises(ValueError, match="x has 65536 rows; expected at most 65535"):
        run("augment", place(type(call)(changed, call.results)))
