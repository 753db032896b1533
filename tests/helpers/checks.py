"""Inputs and assertions for the tests of the kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from helpers import kernels, reference, target
from pyalexnet import device as devices

HOST = devices.get("host")

#: Relative error of one rounding to float32.
ROUNDING = 2.0**-24


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Makes small float32 integers, so that float32 sums of their products are exact."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Makes float32 normal numbers."""
    return rng.normal(size=shape).astype(np.float32)


def lattice(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Makes float32 numbers at least 1 apart and 1/2 from 0; small steps keep their order."""
    count = int(np.prod(shape))
    return (rng.permutation(count) - count // 2 + 0.5).astype(np.float32).reshape(shape)


def padded(array: np.ndarray, fill: float = 0) -> np.ndarray:
    """Appends images of `fill` up to a multiple of the device's `images_multiple`."""
    images = array.shape[-1]
    extra = [(0, 0)] * (array.ndim - 1) + [(0, target.DEVICE.pad_images(images) - images)]
    return np.pad(array, extra, constant_values=fill)


def shifted(array: np.ndarray) -> np.ndarray:
    """Copies to 4 bytes, or an element, past a cache line: the worst alignment allowed."""
    offset = max(1, 4 // array.itemsize)
    memory = HOST.empty((array.size + offset,), array.dtype)
    memory[offset:] = array.reshape(-1)
    return memory[offset:].reshape(array.shape)


def assert_exact(actual: np.ndarray, expected: np.ndarray) -> None:
    """Asserts that the result equals the reference, of any dtype."""
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


def assert_accurate(
    actual: np.ndarray,
    exact: np.ndarray,
    plain: np.ndarray,
    size: np.ndarray,
    granted: float = 0,
) -> None:
    """Asserts that the error is at most twice that of plain float32 arithmetic plus `granted`.

    Errors are relative to `size`, the sum of the magnitudes of each element's terms, so that
    cancellation does not matter. The largest error of the array counts, which needs many elements
    to be meaningful. One rounding is allowed where plain arithmetic makes none.
    """
    assert actual.shape == exact.shape == plain.shape
    assert exact.size >= 200
    np.testing.assert_array_equal(actual[size == 0], exact[size == 0])

    def error(result: np.ndarray) -> float:
        return float(np.max(np.abs(result - exact) / np.where(size > 0, size, 1)))

    assert error(actual) <= 2 * max(error(plain), ROUNDING) + granted


def assert_accurate_sum(
    actual: np.ndarray, reference: Callable[..., np.ndarray], *arrays: np.ndarray
) -> None:
    """Calls `assert_accurate` for sums of products of the `arrays`' elements."""
    doubles = [array.astype(np.float64) for array in arrays]
    exact, size = reference(*doubles), reference(*map(np.abs, doubles))
    assert_accurate(actual, exact, reference(*arrays), size)


def assert_gradient(
    forward: Callable[[np.ndarray], np.ndarray],
    backward: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    dy: np.ndarray,
    *,
    step: float,
    atol: float = 0,
    images: int | None = None,
) -> None:
    """Asserts that backward(dy) is the gradient of Σ forward(x)·dy by central differences in x.

    The difference may be `atol`. Only the first `images` images are tried, if given.
    """
    tried = (..., slice(images))

    def along_dy(part: np.ndarray) -> float:
        whole = x.copy()
        whole[tried] = part
        return float((forward(whole).astype(np.float64) * dy).sum())

    expected = reference.central_differences(along_dy, x[tried], step)
    actual = backward(dy)[tried]
    if atol:
        np.testing.assert_allclose(actual, expected, atol=atol)
    else:
        assert_exact(actual, expected)


def tiles(*of_the_host: str) -> list[str]:
    """Returns the tiles to test: these on the host, the only ones on a GPU."""
    return list(of_the_host) if target.IS_HOST else ["cuda"]


def running_with(tiles: str) -> contextlib.AbstractContextManager[None]:
    """Runs kernels with one of `tiles`."""
    return execution(tiles=tiles) if target.IS_HOST else contextlib.nullcontext()


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


#: Ways to run kernels, all with the same bits. On the host: a block's threads in any order, blocks
#: on any number of cores. A GPU chooses its own order, so the kernels are only run again.
WAYS: list[dict[str, Any]] = [{}, {}]
if target.IS_HOST:
    WAYS = [{"order": "forward"}, {"order": "reverse"}]
    WAYS += [{"order": "shuffled", "seed": seed} for seed in (1, 2, 3)]
    WAYS += [{"order": "shuffled", "seed": 4, "threads": threads} for threads in (1, 3, 8)]


def assert_same_bits(compute: Callable[..., Any], *arrays: np.ndarray) -> None:
    """Asserts that compute(*arrays), one array or several, has the same bits in every run.

    Runs differ by `WAYS` and by the arrays' addresses.
    """

    def bits(*inputs: np.ndarray) -> list[bytes]:
        result = compute(*inputs)
        results = result if isinstance(result, tuple) else (result,)
        return [array.tobytes() for array in results]

    with execution(order="forward", threads=1):
        expected = bits(*arrays)
    for way in WAYS:
        with execution(**way):
            assert bits(*arrays) == expected, way
    with kernels.elsewhere():
        moved = arrays if not target.IS_HOST else map(shifted, arrays)
        assert bits(*moved) == expected, "arrays elsewhere"
