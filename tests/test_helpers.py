"""The helpers: assertions that can fail, and fresh memory that is NaN."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys

import numpy as np
import pytest

from helpers import checks, killed
from helpers.kernels import ops
from helpers.target import DEVICE, download


def test_fresh_memory_is_no_number(guarded_memory):
    for _ in range(3):  # also memory that has been in use
        array = DEVICE.empty((1000,))
        assert np.isnan(download(array)).all()
        DEVICE.copy_in(array, np.zeros(1000))
        del array


def test_kernels_change_the_callers_arrays_and_give_them_back(rng):
    a, b = checks.integers(rng, 37), checks.integers(rng, 37)
    out, total = np.empty(37, np.float32), a + b
    assert ops.add(a, b, out=out) is out
    assert ops.add(a, a, out=a) is a  # twice the same array
    np.testing.assert_array_equal(out, total)
    np.testing.assert_array_equal(a, 2 * (total - b))
    sums = np.zeros(4)
    logits, labels = np.zeros((3, DEVICE.images_multiple), np.float32), np.zeros(1, np.int32)
    loss = ops.softmax_cross_entropy(
        logits, np.resize(labels, logits.shape[1]), k=1, totals=sums, out=None
    )
    assert type(loss) is ops.Loss and all(type(array) is np.ndarray for array in loss)
    assert sums[3] == logits.shape[1]


def test_a_wrong_gradient_is_noticed(rng):
    x, dy = checks.integers(rng, 3, 4), checks.integers(rng, 3, 4)

    def double(v):
        return ops.add(v, v)

    checks.assert_gradient(double, double, x, dy, step=1)
    with pytest.raises(AssertionError):
        checks.assert_gradient(double, lambda dy: 3 * dy, x, dy, step=1, images=1)
    with pytest.raises(AssertionError):
        checks.assert_gradient(double, lambda dy: 2.01 * dy, x, dy, step=1, atol=1e-3)


def test_bits_that_change_are_noticed(rng):
    a, numbers = checks.floats(rng, 5), itertools.count()

    def counting(a):
        return ops.add(a, np.float32(next(numbers) > 1) * a)

    with pytest.raises(AssertionError):
        checks.assert_same_bits(counting, a)


@pytest.mark.host_only("starts pytest for another device")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("gpu", "device is 'gpu'; expected cpu, cuda or cuda:<index>, as in cuda:1"),
        ("cuda:99", "device cuda:99: "),
        ("host,host,host", "devices host,host,host: expected one, or two of a kind"),
    ],
)
def test_a_device_that_cannot_be_tested_ends_pytest_with_a_line(tmp_path, names, message):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--device", names, __file__],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.strip().startswith(f"ERROR: --device: {message}")
    assert done.stderr.strip().count("\n") == 0


@pytest.mark.host_only("computes nothing")
def test_an_error_above_the_bound_is_noticed(rng):
    exact = rng.normal(size=300)
    plain = exact.astype(np.float32)
    checks.assert_accurate(plain, exact, plain, np.abs(exact))
    off = plain.copy()
    off[7] *= np.float32(1 + 2.0**-21)
    with pytest.raises(AssertionError):
        checks.assert_accurate(off, exact, plain, np.abs(exact))
    checks.assert_accurate(off, exact, plain, np.abs(exact), granted=2.0**-21)


CHANGING = """
import os, sys
folder = sys.argv[1]
os.mkdir(folder)
with open(f"{folder}/a", "wb", 0) as file:
    file.write(bytes(100))
os.replace(f"{folder}/a", f"{folder}/b")
"""


@pytest.mark.host_only("writes files")
@pytest.mark.parametrize(
    ("at", "left"), [(1, None), (2, {}), (3, {"a": 50}), (4, {"a": 100}), (5, {"b": 100})]
)
def test_a_process_is_killed_at_each_change_of_its_files(tmp_path, at, left):
    folder = tmp_path / "folder"
    ended = killed.run([sys.executable, "-c", CHANGING, str(folder)], folder, at=at)
    assert ended == (0 if at == 5 else -signal.SIGKILL, "", min(at, 4))
    found = {file.name: file.stat().st_size for file in folder.iterdir()} if at > 1 else None
    assert found == left


@pytest.mark.host_only("writes files")
def test_a_disk_fills_at_a_change(tmp_path):
    folder = tmp_path / "folder"
    ended = killed.run([sys.executable, "-c", CHANGING, str(folder)], folder, at=3, error=28)
    assert ended.status == 1 and "No space left on device" in ended.printed
