"""The execution model on the host: blocks, threads, barriers, warps; errors that it detects."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import checks
from pyalexnet import _host

pytestmark = pytest.mark.host_only("tests how the host runs kernels")

ORDERS = [("forward", 0), ("reverse", 0), ("shuffled", 1), ("shuffled", 2)]


@pytest.fixture(params=ORDERS, ids=lambda order: f"{order[0]}{order[1]}")
def any_order(request: pytest.FixtureRequest):
    """Runs the test with the threads in each order."""
    order, seed = request.param
    with checks.execution(order=order, seed=seed):
        yield


@pytest.fixture(params=[1, 2, 7])
def any_workers(request: pytest.FixtureRequest):
    """Runs the test with fewer, as many and more workers than blocks."""
    before = _host.threads()
    _host.set_threads(request.param)
    yield
    _host.set_threads(before)


def test_barriers_order_shared_memory(selftest, any_order, any_workers, rng):
    values = rng.integers(-1000, 1000, (9, 37))
    sums = selftest.prefix_sum(values.ravel().tolist(), 37)
    np.testing.assert_array_equal(np.reshape(sums, (9, 37)), np.cumsum(values, axis=1))


def test_a_block_of_one_thread_needs_no_fiber(selftest, any_order):
    assert selftest.prefix_sum([3, -4, 5], 1) == [3, -4, 5]


def test_warps_exchange_and_vote(selftest, any_order, any_workers, rng):
    values = rng.integers(-1000, 1000, (6, 32))  # 2 blocks of 3 warps
    sums, odd, above, third = (
        np.reshape(result, (6, 32)) for result in selftest.warp(values.ravel().tolist(), 96)
    )
    np.testing.assert_array_equal(sums, np.broadcast_to(values.sum(1, keepdims=True), (6, 32)))
    votes = ((values % 2 != 0) << np.arange(32)).sum(1, keepdims=True).astype(np.uint32)
    np.testing.assert_array_equal(odd.astype(np.uint32), np.broadcast_to(votes, (6, 32)))
    np.testing.assert_array_equal(above, np.concatenate([values[:, 1:], values[:, -1:]], axis=1))
    np.testing.assert_array_equal(third, np.broadcast_to(values[:, 3:4], (6, 32)))


def test_a_partial_warp_cannot_vote_for_all(selftest, any_order):
    with pytest.raises(RuntimeError, match=r"block \(0, 0, 0\).* 20 at a warp operation"):
        selftest.warp([0] * 20, 20)


@pytest.mark.parametrize(
    ("grid", "block"), [((1, 1, 1), (1, 1, 1)), ((2, 3, 4), (5, 2, 3)), ((70, 1, 2), (1, 33, 1))]
)
def test_every_thread_runs_once_and_knows_where(selftest, any_order, any_workers, grid, block):
    indices = selftest.indices(grid, block)
    assert indices == [list(index) for index in np.ndindex(*grid[::-1], *block[::-1])]


def test_atomics_lose_no_update(selftest, any_order, any_workers, rng):
    values = rng.integers(0, 5, 64 * 200)
    counts, greatest = selftest.atomics(values.tolist(), 64, 5)
    assert counts == np.bincount(values, minlength=5).tolist()
    assert greatest == values.max()


def test_a_missing_barrier_shows_in_another_order(selftest):
    results = []
    for order, seed in ORDERS:
        with checks.execution(order=order, seed=seed):
            results.append(tuple(selftest.missing_barrier(16)))
    assert len(set(results)) == len(ORDERS)


def test_the_same_seed_shuffles_alike(selftest):
    with checks.execution(order="shuffled", seed=7):
        assert selftest.missing_barrier(64) == selftest.missing_barrier(64)


def test_asynchronous_copies_arrive(selftest, any_order, rng):
    values = rng.integers(0, 100, 4 * 40).tolist()
    assert selftest.copies(values, True) == values


@pytest.mark.parametrize(("order", "seed"), ORDERS[1:])
def test_a_missing_wait_for_copies_shows(selftest, order, seed):
    with checks.execution(order=order, seed=seed):
        assert np.isnan(selftest.copies([1.0] * 4 * 40, False)).all()
        assert np.isnan(selftest.copies([1.0] * 4, False)).all()  # a thread without a fiber


def test_a_deadlock_names_its_block(selftest, any_order, any_workers):
    with pytest.raises(RuntimeError, match=r"block \(3, 0, 0\): of 64 threads 63 wait at __sync"):
        selftest.deadlock(5, 3)


def test_kernels_run_after_a_deadlock(selftest, any_order):
    with pytest.raises(RuntimeError, match="deadlock"):
        selftest.deadlock(1, 0)
    assert selftest.prefix_sum([1] * 33, 33) == list(range(1, 34))


@pytest.mark.parametrize("how", [{"order": "reverse"}, {"order": "shuffled"}, {"tiles": "gpu"}])
def test_unwritten_shared_memory_is_nan(selftest, how):
    with checks.execution(**how):
        assert np.isnan(selftest.unwritten(50)).all()


@pytest.mark.parametrize(
    ("grid", "block", "message"),
    [
        ((0, 1, 1), (1, 1, 1), r"grid is \(0, 1, 1\)"),
        ((1, 65536, 1), (1, 1, 1), r"grid is \(1, 65536, 1\)"),
        ((1, 1, 65536), (1, 1, 1), r"grid is \(1, 1, 65536\)"),
        ((2**31, 1, 1), (1, 1, 1), r"grid is \(2147483648, 1, 1\)"),
        ((1, 1, 1), (0, 1, 1), r"block is \(0, 1, 1\)"),
        ((1, 1, 1), (33, 32, 1), r"block is \(33, 32, 1\)"),
    ],
)
def test_a_launch_that_no_gpu_takes_is_refused(selftest, grid, block, message):
    with pytest.raises(ValueError, match=message):
        selftest.launch(grid, block, 0)


def test_the_largest_block_runs(selftest):
    selftest.launch((1, 1, 1), (32, 32, 1), 0)


def test_gpu_tiles_have_a_gpus_shared_memory(selftest):
    with checks.execution(tiles="gpu"):
        selftest.launch((1, 1, 1), (1, 1, 1), 65536)
        with pytest.raises(ValueError, match="65537 bytes"):
            selftest.launch((1, 1, 1), (1, 1, 1), 65537)
    selftest.launch((1, 1, 1), (1, 1, 1), 65537)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": "backward"}, "order is 'backward'.*'reverse'"),
        ({"tiles": "cpu"}, "tiles is 'cpu'.*'gpu'"),
    ],
)
def test_unknown_execution_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        _host.set_execution(**arguments)


@pytest.mark.parametrize("threads", [-1, 1025])
def test_impossible_number_of_workers_is_refused(threads):
    with pytest.raises(ValueError, match=f"threads is {threads}"):
        _host.set_threads(threads)
