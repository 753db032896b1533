"""The stand-in for CuPy. `run` in this folder starts pytest on this file, in the emulator."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import cupy
import numpy as np
import pytest
from cupy.cuda import nccl, runtime

ERROR_STATUS = 86


def start(code: str, **variables: str) -> subprocess.Popen[str]:
    """Start a program in the emulator."""
    preamble = "import cupy, numpy as np\nfrom cupy.cuda import nccl, runtime\n"
    return subprocess.Popen(
        [sys.executable, "-c", preamble + textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )


def run(code: str, status: int = 0, **variables: str) -> str:
    """Run a program in the emulator; return its output, including standard error."""
    process = start(code, **variables)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == status, output + errors
    return output + errors


def pinned(values: Any) -> np.ndarray:
    """Return a copy of an array in pinned memory."""
    values = np.asarray(values)
    memory = cupy.cuda.alloc_pinned_memory(values.nbytes)
    out = np.frombuffer(memory, values.dtype, values.size).reshape(values.shape)
    out[...] = values
    return out


# --- arrays ---


def test_arrays_go_to_the_device_and_back():
    host = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    array = cupy.asarray(host)
    assert (array.shape, array.dtype, array.nbytes, array.ndim) == ((2, 3, 4), host.dtype, 96, 3)
    np.testing.assert_array_equal(array.get(), host)
    np.testing.assert_array_equal(cupy.asnumpy(array[1]), host[1])
    np.testing.assert_array_equal(array.reshape(-1, 4)[1:5].get(), host.reshape(-1, 4)[1:5])
    np.testing.assert_array_equal(array[-1][0].copy().get(), host[-1][0])
    np.testing.assert_array_equal(array.view(np.int32).get(), host.view(np.int32))
    np.testing.assert_array_equal(cupy.zeros((2, 2), np.int64).get(), np.zeros((2, 2)))
    array[1].set(np.ones((3, 4), np.float32))
    assert array.get().sum() == host[0].sum() + 12
    assert cupy.array(3.0).get() == 3.0
    assert cupy.empty((0, 3)).get().shape == (0, 3)


def test_wrong_arrays_are_refused():
    array = cupy.empty((2, 3), np.float32)
    for wrong, error in (
        (np.zeros((2, 3)), TypeError),
        (np.zeros((3, 2), np.float32), ValueError),
        ([[0.0] * 3] * 2, TypeError),
    ):
        with pytest.raises(error):
            array.set(wrong)
    with pytest.raises(IndexError):
        array[2]
    with pytest.raises(ValueError, match="cannot reshape"):
        array.reshape(4, 2)
    with pytest.raises(NotImplementedError):
        array[::2]


def test_the_array_interface_names_the_current_stream():
    array = cupy.empty((2, 3), np.float32)
    interface = array.__cuda_array_interface__
    assert interface["version"] == 3
    assert interface["data"] == (array.data.ptr, False)
    assert interface["stream"] == 1  # the null stream; the protocol forbids 0
    with cupy.cuda.Stream() as stream:
        assert array.__cuda_array_interface__["stream"] == stream.ptr
    assert cupy.empty(0).__cuda_array_interface__["data"] == (0, False)


# --- devices and streams ---


def test_each_device_has_a_current_stream():
    one = cupy.cuda.Stream()
    with cupy.cuda.Device(1):
        two = cupy.cuda.Stream(non_blocking=True)
    assert (one.device_id, two.device_id, two.is_non_blocking) == (0, 1, True)
    with one:
        assert cupy.cuda.get_current_stream() == one
        with cupy.cuda.Device(1):
            assert cupy.cuda.get_current_stream() == cupy.cuda.Stream.null
            with two:
                assert cupy.cuda.get_current_stream() == two
                assert cupy.cuda.get_current_stream(0) == one
                assert cupy.empty(3).device == cupy.cuda.Device(1)
        with pytest.raises(RuntimeError, match="does not match with the current device"):
            two.use()
    assert cupy.cuda.get_current_stream() == cupy.cuda.Stream.null
    assert cupy.empty(3).device.id == 0


def test_attributes():
    arch = os.environ["EMU_ARCH"]
    device = cupy.cuda.Device(0)
    assert device.compute_capability == arch
    assert device.attributes["MaxSharedMemoryPerBlock"] == 48 * 1024
    assert device.attributes["MultiProcessorCount"] == {"75": 40, "80": 108, "90": 132}[arch]
    free, total = device.mem_info
    assert free <= total == 16384 << 20
    assert runtime.getDeviceCount() == 2
    with pytest.raises(runtime.CUDARuntimeError, match="cudaErrorInvalidDevice") as error:
        runtime.setDevice(2)
    assert error.value.status == 101


def test_queued_copies_run_when_the_host_waits():
    stream, source = cupy.cuda.Stream(), pinned(np.full(4, 1.0))
    array = cupy.empty(4)
    array.set(source, stream=stream)
    source[...] = 2.0
    event = stream.record()
    assert (stream.done, event.done) == (True, True)  # a query runs queued work
    source[...] = 3.0
    assert array.get(stream).tolist() == [2.0] * 4
    out = pinned(np.zeros(4))
    array.get(stream, out=out, blocking=False)
    assert out.tolist() == [0.0] * 4
    stream.synchronize()
    assert out.tolist() == [2.0] * 4


def test_a_stream_waits_for_an_event():
    one, two = cupy.cuda.Stream(), cupy.cuda.Stream(non_blocking=True)
    x, y = cupy.empty(4), cupy.empty(4)
    x.set(np.full(4, 7.0), stream=one)
    two.wait_event(one.record())
    y.data.copy_from_device_async(x.data, x.nbytes, two)
    assert y.get(two).tolist() == [7.0] * 4
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record(one)
    end.record(one)
    end.synchronize()
    assert cupy.cuda.get_elapsed_time(start, end) >= 0


MISSING_WAIT = """
one, two = cupy.cuda.Stream(), cupy.cuda.Stream()
x, y = cupy.empty(4), cupy.empty(4)
x.set(np.full(4, 7.0), stream=one)
two.wait_event(one.record())
y.data.copy_from_device_async(x.data, x.nbytes, two)
two.synchronize()
print(y.get().tolist())
"""


def test_a_wait_can_be_dropped(tmp_path):
    waits = tmp_path / "waits"
    (tmp_path / "program.py").write_text("import cupy, numpy as np\n" + MISSING_WAIT)
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import program"
    assert "[7.0, 7.0, 7.0, 7.0]" in run(code, EMU_LIST_WAITS=str(waits))
    assert waits.read_text().split() == ["program.py:6", "program.py:8"]
    report = run(code, ERROR_STATUS, EMU_DROP_WAIT="program.py:6")
    assert "ERROR: race between streams: a copy in stream" in report
    run(code, EMU_DROP_WAIT="program.py:7")


# --- pinned memory ---


def test_pinned_memory():
    memory = cupy.cuda.alloc_pinned_memory(1000)
    assert (memory.size(), memory.ptr % 4096, int(memory)) == (1024, 0, memory.ptr)
    assert (memory + 24).size() == 1000
    array = np.frombuffer(memory, np.float32, 250)
    assert array.ctypes.data == memory.ptr
    array[...] = 5  # writable
    del memory
    assert array.sum() == 1250
    assert cupy.cuda.alloc_pinned_memory(0).size() == 0
    assert cupy.get_default_pinned_memory_pool().n_free_blocks() == 0


def test_registered_memory():
    memory = np.ones(5000)
    runtime.hostRegister(memory.ctypes.data, memory.nbytes, 1)
    with pytest.raises(runtime.CUDARuntimeError, match="AlreadyRegistered"):
        runtime.hostRegister(memory.ctypes.data, memory.nbytes, 1)
    runtime.hostUnregister(memory.ctypes.data)
    code = """
    try:
        runtime.hostRegister(np.ones(9).ctypes.data, 72, 1)
    except runtime.CUDARuntimeError as error:
        print(error.status, error)
    """
    assert run(code, EMU_HOST_REGISTER="0").startswith("801 cudaErrorNotSupported: ")


# --- graphs ---


def test_graphs():
    stream = cupy.cuda.Stream(non_blocking=True)
    source, out = pinned(np.full(4, 1.0)), cupy.zeros(4)
    cupy.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        assert stream.is_capturing()
        temporary = cupy.empty(4)
        temporary.set(source)
        out.data.copy_from_device_async(temporary.data, out.nbytes)
        del temporary
        graph = stream.end_capture()
    assert not stream.is_capturing()
    assert out.get().tolist() == [0.0] * 4
    for value in (2.0, 3.0):
        source[...] = value
        graph.launch(stream)
        stream.synchronize()
        assert out.get(stream).tolist() == [value] * 4
    graph.upload(stream)
    with stream:
        graph.launch()
    stream.synchronize()


def test_captures_that_are_wrong():
    with pytest.raises(RuntimeError, match="cannot capture on the default"):
        cupy.cuda.Stream.null.begin_capture()
    with pytest.raises(NotImplementedError):
        cupy.cuda.Graph()
    stream = cupy.cuda.Stream()
    stream.begin_capture()
    with pytest.raises(runtime.CUDARuntimeError, match="StreamCaptureUnsupported"):
        stream.synchronize()
    with pytest.raises(RuntimeError, match="invalidated"):
        stream.is_capturing()
    with pytest.raises(runtime.CUDARuntimeError, match="StreamCaptureInvalidated"):
        stream.end_capture()


# --- peers ---


def test_peer_copies():
    with cupy.cuda.Device(1):
        far = cupy.asarray(np.arange(4.0))
        runtime.deviceSynchronize()
    near, stream = cupy.empty(4), cupy.cuda.Stream()
    runtime.memcpyPeerAsync(near.data.ptr, 0, far.data.ptr, 1, near.nbytes, stream.ptr)
    assert near.get(stream).tolist() == [0, 1, 2, 3]
    assert runtime.deviceCanAccessPeer(0, 1) == 1
    runtime.deviceEnablePeerAccess(1)
    with pytest.raises(runtime.CUDARuntimeError, match="AlreadyEnabled") as error:
        runtime.deviceEnablePeerAccess(1)
    assert error.value.status == 704
    runtime.deviceDisablePeerAccess(1)


def test_devices_without_peer_access():
    code = """
    print(runtime.deviceCanAccessPeer(0, 1))
    try:
        runtime.deviceEnablePeerAccess(1)
    except runtime.CUDARuntimeError as error:
        print(error.status)
    """
    assert run(code, EMU_PEER_ACCESS="0").split() == ["0", "217"]


# --- memory ---


def test_memory_that_is_exhausted():
    code = """
    pool = cupy.get_default_memory_pool()
    x = cupy.empty(600 << 10, np.uint8)
    try:
        cupy.empty(500 << 10, np.uint8)
    except cupy.cuda.memory.OutOfMemoryError as error:
        print(isinstance(error, MemoryError), error)
    del x
    x = cupy.empty(900 << 10, np.uint8)
    print(pool.used_bytes(), pool.total_bytes())
    del x
    print(pool.used_bytes(), pool.total_bytes())
    pool.free_all_blocks()
    print(pool.total_bytes())
    pool.set_limit(1 << 10)
    try:
        cupy.empty(2000, np.uint8)
    except cupy.cuda.memory.OutOfMemoryError as error:
        print(error)
    """
    assert run(code, EMU_MEMORY_MB="1").splitlines() == [
        "True Out of memory allocating 512,000 bytes (allocated so far: 614,400 bytes).",
        "921600 921600",
        "0 921600",
        "0",
        "Out of memory allocating 2,048 bytes (allocated so far: 0 bytes, limit set to: 1,024 "
        "bytes).",
    ]


# --- NCCL ---

RANK = """
import sys
size, rank, unique = {size}, int(sys.stdin.readline()), bytes.fromhex({unique!r})
communicator = nccl.NcclCommunicator(size, unique, rank)
stream = cupy.cuda.Stream(non_blocking=True)
ready = cupy.cuda.Stream.null
def reduce(x, type=nccl.NCCL_FLOAT32, op=nccl.NCCL_SUM):
    stream.wait_event(ready.record())
    communicator.allReduce(x.data.ptr, x.data.ptr, x.size, type, op, stream.ptr)
"""


def ranks(code: str, size: int, **variables: str) -> list[tuple[int, str]]:
    """Run a program once per rank of a communicator; return exit statuses and outputs."""
    unique = nccl.get_unique_id()
    folder = Path(unique.rstrip(b"\0").decode())
    code = RANK.format(size=size, unique=unique.hex()) + textwrap.dedent(code)
    started = [start(code, **variables) for _ in range(size)]
    results = []
    for rank, process in enumerate(started):
        assert process.stdin
        process.stdin.write(f"{rank}\n")
        process.stdin.flush()
    for process in started:
        output, errors = process.communicate(timeout=60)
        results.append((process.returncode, output + errors))
    assert not folder.exists()
    return results


def test_a_sum_has_the_same_bits_in_every_rank():
    code = """
    values = [np.float32([1e8, 1.0]), np.float32([1.0, 2.0]), np.float32([-1e8, 3.0])][rank]
    x = cupy.asarray(values)
    reduce(x)
    print(x.get(stream).tolist())
    y = cupy.asarray(np.int64([rank, -rank]))
    reduce(y, nccl.NCCL_INT64, nccl.NCCL_MAX)
    reduce(y, nccl.NCCL_INT64, nccl.NCCL_SUM)
    print(y.get(stream).tolist())
    """
    # ((1e8 + 1) - 1e8): the sum in the order of ranks
    assert ranks(code, 3) == [(0, "[0.0, 6.0]\n[6, 0]\n")] * 3


def test_a_sum_waits_for_its_stream_and_no_longer():
    code = """
    x = cupy.empty(4, np.float32)
    source = np.frombuffer(cupy.cuda.alloc_pinned_memory(16), np.float32, 4)
    with stream:
        for step in range(3):
            source[...] = step + rank
            x.set(source, stream=stream)
            communicator.allReduce(x.data.ptr, x.data.ptr, 4, 7, 0, stream.ptr)
            stream.synchronize()
            print(x.get(stream)[0])
    """
    assert ranks(code, 2) == [(0, "1.0\n3.0\n5.0\n")] * 2


def test_a_rank_contributes_while_its_host_does_something_else():
    code = """
    import pathlib, time
    done = pathlib.Path({path!r})
    x = cupy.asarray(np.float32([rank + 1]))
    reduce(x)
    if rank == 0:
        stream.synchronize()
        done.touch()
    while not done.exists():  # rank 1 does not wait for its stream
        time.sleep(0.001)
    print(x.get(stream)[0])
    """
    with tempfile.TemporaryDirectory() as folder:
        code = code.replace("{path!r}", repr(f"{folder}/done"))
        assert ranks(code, 2) == [(0, "3.0\n")] * 2


def test_ranks_that_disagree_or_never_come():
    report = ranks("x = cupy.zeros(3 + rank, np.float32); reduce(x); x.get(stream)", 2)
    assert any(
        status == ERROR_STATUS and "rank 1 reduces 4 elements" in text for status, text in report
    )
    code = "x = cupy.zeros(3, np.float32); rank == 0 and (reduce(x), x.get(stream))"
    status, text = ranks(code, 2)[0]
    assert status == ERROR_STATUS
    assert "ERROR: NCCL: all-reduce 1 of rank 0 among 2: rank 1 has exited before it" in text
    code = """
    import time
    x = cupy.zeros(3, np.float32)
    if rank == 0:
        reduce(x)
        x.get(stream)
    sys.stdin.read()  # until the test closes it
    time.sleep(1)
    """
    status, text = ranks(code, 2, EMU_NCCL_TIMEOUT="0.3")[0]
    assert status == ERROR_STATUS
    assert "rank 1 did not join it within" in text


def test_a_rank_that_never_joins():
    unique = nccl.get_unique_id()
    code = f"nccl.NcclCommunicator(2, bytes.fromhex({unique.hex()!r}), 0)"
    text = run(code, 1, EMU_NCCL_TIMEOUT="0.2")
    assert "NcclError: NCCL_ERROR_REMOTE_ERROR" in text
    assert "rank 1 of 2 did not join within 0.2 s" in text
    assert not Path(unique.rstrip(b"\0").decode()).exists()


def test_folders_of_killed_processes_are_removed():
    unique = nccl.get_unique_id()
    folder = Path(unique.rstrip(b"\0").decode())
    code = f"c = nccl.NcclCommunicator(1, bytes.fromhex({unique.hex()!r}), 0); print(0); input()"
    with start(code, PYTHONUNBUFFERED="1") as process:
        assert process.stdout
        assert process.stdout.readline() == "0\n"
        os.utime(folder, (0, 0))
        nccl.get_unique_id()
        assert folder.exists()
        process.kill()
    nccl.get_unique_id()
    assert not folder.exists()


def test_unwritten_gradients_are_an_error():
    status, text = ranks("x = cupy.empty(3, np.float32); reduce(x); x.get(stream)", 1)[0]
    assert status == ERROR_STATUS
    assert "ERROR: uninitialised memory: an all-reduce reads" in text


def test_a_communicator_of_two_devices_in_one_process():
    communicators = nccl.NcclCommunicator.initAll(2)
    assert [c.device_id() for c in communicators] == [0, 1]
    assert [(c.rank_id(), c.size()) for c in communicators] == [(0, 2), (1, 2)]
    arrays, streams = [], []
    nccl.groupStart()
    for device, communicator in enumerate(communicators):
        with cupy.cuda.Device(device):
            streams.append(cupy.cuda.Stream())
            arrays.append(cupy.asarray(np.float64([device + 1, 10])))
            at = arrays[-1].data.ptr
            kind = (nccl.NCCL_FLOAT64, nccl.NCCL_SUM, streams[-1].ptr)
            communicator.allReduce(at, at, 2, *kind)
    nccl.groupEnd()
    for array, stream in zip(arrays, streams, strict=True):
        assert array.get(stream).tolist() == [3, 20]
    for communicator in communicators:
        communicator.destroy()


def test_wrong_calls_of_nccl():
    with pytest.raises(ValueError, match="commId length 3 != 128"):
        nccl.NcclCommunicator(1, b"abc", 0)
    with pytest.raises(nccl.NcclError, match="rank 1 of 1"):
        nccl.NcclCommunicator(1, nccl.get_unique_id(), 1)
    communicator = nccl.NcclCommunicator(1, nccl.get_unique_id(), 0)
    with pytest.raises(nccl.NcclError) as error:
        communicator.allReduce(0, 0, 1, 99, 0, 0)
    assert error.value.status == 4
    with pytest.raises(nccl.NcclError, match="groupEnd without"):
        nccl.groupEnd()


# --- outside the emulator ---


def test_the_stand_in_says_where_it_works():
    assert "tests/cuda_emulator/run" in run("", 1, EMU_LIBRARY="")
