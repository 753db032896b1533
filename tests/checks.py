"""What the tests of the kernels share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pyalexnet import device as devices

HOST = devices.get("host")

#: Relative error of one rounding to float32.
ROUNDING = 2.0**-24


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Float32 whole numbers so small that float32 sums of their products are exact."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Float32 normal numbers."""
    return rng.normal(size=shape).astype(np.float32)


def lattice(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Float32 numbers at least 1 from each other and 1/2 from 0, so that steps change no order."""
    count = int(np.prod(shape))
    return (rng.permutation(count) - count // 2 + 0.5).astype(np.float32).reshape(shape)


def padded(array: np.ndarray, fill: float = 0) -> np.ndarray:
    """`array` with images of `fill` appended up to a number that the kernels take."""
    images = array.shape[-1]
    extra = [(0, 0)] * (array.ndim - 1) + [(0, HOST.pad_images(images) - images)]
    return np.pad(array, extra, constant_values=fill)


def shifted(array: np.ndarray) -> np.ndarray:
    """A copy that starts 4 bytes, or an element, behind a cache line: as unaligned as may be."""
    offset = max(1, 4 // array.itemsize)
    memory = HOST.empty((array.size + offset,), array.dtype)
    memory[offset:] = array.reshape(-1)
    return memory[offset:].reshape(array.shape)


def assert_exact(actual: np.ndarray, expected: np.ndarray) -> None:
    """The kernel's result is the reference's, whatever the reference's dtype."""
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


def assert_accurate(
    actual: np.ndarray, exact: np.ndarray, plain: np.ndarray, size: np.ndarray
) -> None:
    """The error is at most twice that of plain float32 arithmetic.

    An error is measured in units of `size`, the sum of the magnitudes of the terms of each
    element, so that cancellation does not matter. The largest over the array counts, and only over
    many elements is that no matter of luck. One rounding is granted where plain arithmetic happens
    to make none.
    """
    assert actual.shape == exact.shape == plain.shape
    assert exact.size >= 200
    np.testing.assert_array_equal(actual[size == 0], exact[size == 0])

    def error(result: np.ndarray) -> float:
        return float(np.max(np.abs(result - exact) / np.where(size > 0, size, 1)))

    assert error(actual) <= 2 * max(error(plain), ROUNDING)


def assert_accurate_sum(
    actual: np.ndarray, reference: Callable[..., np.ndarray], *arrays: np.ndarray
) -> None:
    """`assert_accurate` for sums of products of the `arrays`' elements."""
    doubles = [array.astype(np.float64) for array in arrays]
    exact, size = reference(*doubles), reference(*map(np.abs, doubles))
    assert_accurate(actual, exact, reference(*arrays), size)


@contextlib.contextmanager
def execution(threads: int | None = None, **how: Any) -> Iterator[None]:
    """Runs kernels with these arguments of `_host.set_execution` changed."""
    lib = HOST.lib
    before, threads_before = lib.execution(), lib.threads()
    lib.set_execution(**{**before, **how})
    lib.set_threads(threads or threads_before)
    try:
        yield
    finally:
        lib.set_execution(**before)
        lib.set_threads(threads_before)


def assert_same_bits(compute: Callable[..., Any], *arrays: np.ndarray) -> None:
    """compute(*arrays), one array or several, has the same bits however it is run.

    That is: again, with threads of a block in any order, blocks on any number of cores, and the
    arrays anywhere in memory.
    """

    def bits(*inputs: np.ndarray) -> list[bytes]:
        result = compute(*inputs)
        results = result if isinstance(result, tuple) else (result,)
        return [array.tobytes() for array in results]

    with execution(order="forward", threads=1):
        expected = bits(*arrays)
    ways: list[dict[str, Any]] = [{"order": "forward"}, {"order": "reverse"}]
    ways += [{"order": "shuffled", "seed": seed} for seed in (1, 2, 3)]
    ways += [{"order": "shuffled", "seed": 4, "threads": threads} for threads in (1, 3, 8)]
    for way in ways:
        with execution(**way):
            assert bits(*arrays) == expected, way
    assert bits(*map(shifted, arrays)) == expected, "arrays elsewhere"
