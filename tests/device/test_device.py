"""Devices: their names, errors, and all CUDA paths against stand-ins for CuPy and `_cuda`."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

import pyalexnet
from helpers import tiny
from pyalexnet import device as devices
from pyalexnet.device import host
from pyalexnet.errors import DeviceError
from pyalexnet.model import Model
from pyalexnet.nn.layers import LRN, Conv, Dropout, Linear, MaxPool
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization
from pyalexnet.nn.optim import SGD

pytestmark = pytest.mark.host_only("puts stand-ins in the place of GPUs")

HOST = devices.get("host")
SCALED = Normalization(scale=1 / 64)


@pytest.mark.parametrize("make", [HOST.empty, HOST.zeros])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5, 7), (1 << 21,)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float64])
def test_host_arrays_are_aligned_and_contiguous(make, shape, dtype):
    array = make(shape, dtype)
    assert (array.shape, array.dtype) == (shape, dtype)
    assert array.ctypes.data % 64 == 0
    assert array.flags.c_contiguous and array.flags.writeable


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "", "host:0"])
def test_unknown_names(name):
    with pytest.raises(DeviceError, match="expected cpu, cuda or cuda:<index>"):
        devices.get(name)


def test_names_that_pytorch_has():
    assert devices.get("cpu") is HOST and devices.open("cpu,host") == [HOST, HOST]
    assert devices.own_names("cpu,cuda,cuda:1,tpu") == "host,cuda:0,cuda:1,tpu"


def test_words():
    threads = HOST.lib.threads()
    assert HOST.words == f"CPU, {threads} thread{'s' if threads > 1 else ''} (host)"


@pytest.mark.parametrize(("quota", "variable", "threads"), [(3, "", 3), (3, "8", 8), (9, "", 8)])
def test_a_containers_quota_bounds_the_threads(monkeypatch, quota, variable, threads):
    lib = SimpleNamespace(count=8, threads=lambda: lib.count)
    lib.set_threads = lambda count: setattr(lib, "count", count)
    monkeypatch.setenv("PYALEXNET_THREADS", variable)
    monkeypatch.setattr(host, "count_cores", lambda: quota)
    host._set_threads(lib)
    assert lib.count == threads


@pytest.mark.parametrize("value", ["auto", "0", "1025", "2.5", "9" * 30])
def test_a_wrong_number_of_threads_in_the_environment_is_named(monkeypatch, value):
    before = HOST.lib.threads()
    monkeypatch.setenv("PYALEXNET_THREADS", value)
    HOST.lib.set_threads(0)
    try:
        with pytest.raises(DeviceError, match=f"^PYALEXNET_THREADS is '{value}'; expected a numb"):
            devices.HostDevice()
    finally:
        monkeypatch.delenv("PYALEXNET_THREADS")
        HOST.lib.set_threads(before)


@pytest.mark.host_only("the host's threads and kernels")
def test_an_algorithm_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("PYALEXNET_CONV", "fft\n")
    message = r"^PYALEXNET_CONV is 'fft\\n'; expected 'direct' or 'winograd'$"
    with pytest.raises(DeviceError, match=message):
        devices.HostDevice()


def test_of_refuses_other_things():
    with pytest.raises(TypeError, match="got list"):
        devices.of([1.0])


def _cuda_module(count: int, error: str = "") -> ModuleType:
    lib = ModuleType("pyalexnet._cuda")
    lib.device_count = lambda: count
    lib.device_error = lambda: error
    lib.IMAGES_MULTIPLE = HOST.images_multiple
    lib.FEW_IMAGES = HOST.few_images
    return lib


@pytest.mark.parametrize(
    ("lib", "cupy", "reason"),
    [
        (None, ModuleType("cupy"), "built without CUDA"),
        (_cuda_module(0, "no driver is installed"), ModuleType("cupy"), "no driver is installed"),
        (_cuda_module(0), ModuleType("cupy"), "no GPU"),
        (_cuda_module(3), ModuleType("cupy"), "this machine has 3, cuda:0 to cuda:2"),
        (_cuda_module(4), None, "CuPy is not installed"),
    ],
)
def test_cuda_errors_name_the_missing_part(monkeypatch, lib, cupy, reason):
    monkeypatch.setitem(sys.modules, "pyalexnet._cuda", lib)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert reason in devices.cuda_problem(3)
    with pytest.raises(DeviceError, match="device cuda:3: ") as error:
        devices.get("cuda:3")
    assert reason in str(error.value)


def test_default_is_the_host_without_a_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyalexnet._cuda", None)
    assert devices.default_name() == "host"


def test_the_host_alone_needs_no_cupy(tmp_path):
    code = (
        "import sys; from pyalexnet.model import Model; from pyalexnet.nn import zoo;"
        "Model(zoo.small(), 'host', 1); print('cupy' in sys.modules)"
    )
    # Not in the source folder, which would hide the installed package.
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path)
    assert output.strip() == "False"


# Stand-ins for CuPy: arrays that NumPy and the host's kernels refuse, that know their device, and
# that complain when used while another device is current or on another stream.


class _Current:
    device = 0
    stream = None
    streams: ClassVar[dict[int, _Stream]] = {}
    seen: ClassVar[Counter] = Counter()  # what the host has waited for
    accesses: ClassVar[dict] = {}


class _Device:
    def __init__(self, index):
        self.id = index

    def __enter__(self):
        self._before, _Current.device = _Current.device, self.id

    def __exit__(self, *_):
        _Current.device = self._before


class _Stream:
    """Knows by a vector clock which work of which streams is behind it, and so sees races."""

    def __init__(self):
        self.device = _Current.device
        number = sum(stream.device == self.device for stream in _Current.streams.values())
        self.ptr = 1000 * (number + 1) + self.device
        self.clock = Counter()
        _Current.streams[self.ptr] = self

    def __enter__(self):
        assert _Current.device == self.device
        self._before, _Current.stream = _Current.stream, self

    def __exit__(self, *_):
        _Current.stream = self._before

    def synchronize(self):
        _Current.seen |= self.clock

    def wait_event(self, event):
        self.clock |= event.clock

    def touch(self, *arrays):
        """Work on arrays is queued, which may write all of them."""
        self.clock |= _Current.seen
        self.clock[self.ptr] += 1
        for array in arrays:
            begin = array.values.ctypes.data
            end = begin + array.nbytes
            for (first, last, ptr), (time, _) in _Current.accesses.items():
                if ptr != self.ptr and first < end and begin < last:
                    assert self.clock[ptr] >= time, "two streams touch memory at the same time"
            # Keeping the array keeps its memory from being given out again.
            _Current.accesses[begin, end, self.ptr] = self.clock[self.ptr], array


class _Event:
    def __init__(self, *, disable_timing):
        assert disable_timing

    def record(self, stream):
        assert stream.device == _Current.device
        self.clock = Counter(stream.clock)

    def synchronize(self):
        _Current.seen |= self.clock


class _Runtime:
    """The part of CUDA's runtime for copies between devices."""

    peers: ClassVar[set] = set()
    not_awaited: ClassVar[list[int]] = []  # of each copy: work of its source that it overlaps
    pinned: ClassVar[dict[int, int]] = {}

    @staticmethod
    def deviceCanAccessPeer(device, peer):
        return True

    @staticmethod
    def deviceEnablePeerAccess(peer):
        assert (_Current.device, peer) not in _Runtime.peers  # CUDA's error the second time
        _Runtime.peers.add((_Current.device, peer))

    @staticmethod
    def hostRegister(address, size, flags):
        assert flags == 1
        _Runtime.pinned[address] = size

    @staticmethod
    def hostUnregister(address):
        del _Runtime.pinned[address]

    @staticmethod
    def memcpyPeerAsync(to, to_device, source, source_device, size, stream):
        assert (to.device.id, source.device.id) == (to_device, source_device)
        assert to.nbytes == source.nbytes == size
        assert to_device == source_device or (to_device, source_device) in _Runtime.peers
        copies = _Current.streams[stream]
        work = _Current.streams[1000 + source_device]
        if source_device != to_device:
            _Runtime.not_awaited.append(work.clock[work.ptr] - copies.clock[work.ptr])
        copies.touch(to, source)
        to.values[...] = source.values


class _Memory:
    def __init__(self, array):
        self.ptr, self._values = array, array.values  # a pointer that knows its array

    def memset_async(self, value, size, stream):
        assert stream.device == _Current.device and size == self._values.nbytes
        self._values.reshape(-1).view(np.uint8)[...] = value


class _Array:
    __array__ = None  # NumPy must not take it for an array
    __cuda_array_interface__ = None

    def __init__(self, shape, dtype):
        assert _Current.stream is not None and _Current.stream.device == _Current.device
        self.device = SimpleNamespace(id=_Current.device)
        self.values = HOST.empty(shape, dtype)
        self.values.reshape(-1).view(np.uint8)[...] = 0xFF  # NaN, as fresh memory may be

    def _view(self, values):
        view = object.__new__(_Array)
        view.device, view.values = self.device, values
        return view

    shape = property(lambda self: self.values.shape)
    dtype = property(lambda self: self.values.dtype)
    nbytes = property(lambda self: self.values.nbytes)
    data = property(lambda self: _Memory(self))

    def reshape(self, shape):
        view = self.values.view()
        view.shape = shape  # fails rather than copies
        return self._view(view)

    def __getitem__(self, index):
        assert isinstance(index, slice)
        return self._view(self.values[index])

    def set(self, values, stream=None):
        assert type(values) is np.ndarray and stream.device == self.device.id == _Current.device
        assert (values.dtype, values.shape) == (self.dtype, self.shape)
        stream.touch(self)
        self.values[...] = values

    def get(self, stream=None):
        assert stream.device == self.device.id == _Current.device
        stream.touch(self)
        stream.synchronize()
        return self.values.copy()


class _CudaLib:
    """A `_cuda` for two GPUs."""

    IMAGES_MULTIPLE = HOST.images_multiple
    FEW_IMAGES = HOST.few_images

    def device_count(self):
        return 2

    def device_error(self):
        return ""

    def Kernels(self, device, stream):
        return _Kernels(device, stream)


class _Kernels:
    """The host's kernels behind checks of what a GPU's would get."""

    def __init__(self, device, stream):
        assert stream == 1000 + device
        self._device, self._stream = device, stream

    def __getattr__(self, name):
        function = getattr(HOST.kernels, name)
        if name == "conv_plan":
            return function

        def kernel(*args, **options):
            given = [*args, *options.values()]
            arrays = [arg for arg in given if isinstance(arg, _Array)]
            _Current.streams[self._stream].touch(*arrays)
            for arg in given:
                assert not isinstance(arg, np.ndarray), f"{name} got an array of the host"
            assert {array.device.id for array in arrays} == {self._device}
            values = (_values(arg) for arg in args)
            function(*values, **{key: _values(arg) for key, arg in options.items()})

        return kernel


def _values(argument):
    return argument.values if isinstance(argument, _Array) else argument


@pytest.fixture
def fake_cuda(monkeypatch):
    cupy = ModuleType("cupy")
    cupy.ndarray = _Array
    cupy.cuda = SimpleNamespace(Device=_Device, Stream=_Stream, Event=_Event, runtime=_Runtime)
    kept = _Current.streams, _Current.seen, _Current.accesses, _Runtime.peers, _Runtime.not_awaited
    for container in kept:
        container.clear()
    lib = _CudaLib()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "pyalexnet._cuda", lib)
    monkeypatch.setattr(pyalexnet, "_cuda", lib, raising=False)  # set by an import of it
    monkeypatch.setattr(devices, "get", devices.functools.cache(devices.get.__wrapped__))


def test_cuda_arrays(fake_cuda):
    gpu = devices.get("cuda:1")
    assert (gpu.name, repr(gpu)) == ("cuda:1", "<device cuda:1>")
    array = gpu.upload(np.arange(6, dtype=np.int32).reshape(2, 3).T)
    assert devices.of(array) is gpu
    np.testing.assert_array_equal(gpu.download(array), [[0, 3], [1, 4], [2, 5]])
    gpu.copy_in(array, np.ones((3, 2)))
    np.testing.assert_array_equal(gpu.download(array), np.ones((3, 2)))
    assert not gpu.download(gpu.zeros((3,), np.float64)).any()
    gpu.synchronize()
    memory = np.zeros(100, np.uint8)
    gpu.pin(memory)
    assert _Runtime.pinned == {memory.ctypes.data: 100}
    gpu.unpin(memory)
    assert not _Runtime.pinned
    assert devices.default_name() == "cuda:0"


CHAIN = Net(
    "tiny",
    (3, 9, 8),
    (
        Conv(6, 3, pad=1),
        LRN(groups=2),
        MaxPool(),
        Conv(4, 3, groups=2, activation="tanh"),
        Conv(4, 1),
        Linear(6),
        Dropout(),
        Linear(3, activation=""),
    ),
    SCALED,
)


@pytest.mark.parametrize(
    ("net", "on_host", "on_gpu"),
    [
        (CHAIN, "host", "cuda:1"),
        (CHAIN, "host,host", "cuda:0,cuda:1"),
        (CHAIN, "host,host", "cuda:0,cuda:0"),
        (tiny.BRANCHED, "host", "cuda:0"),
    ],
)
def test_a_model_on_gpus_does_as_on_the_host(fake_cuda, net, on_host, on_gpu):
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (6, 10, 10, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, 6).astype(np.int32)
    crops = rng.integers(0, 2, (6, 3)).astype(np.int32)

    def train(name):
        model = Model(net, name, 8, seed=5)
        sgd = SGD(model, lr=0.1, weight_decay=0.01)
        model.set_mean_image(np.full((10, 10, 3), 120, np.float32))
        for step in range(3):
            model.forward_backward(images, labels, crops, seed=1, step=step)
            sgd.step()
        totals = model.pop_metrics()
        sgd.load_state(sgd.state())
        model.evaluate(images, labels, crops)
        model.synchronize()
        return (
            model.state() | sgd.state(),
            model.predict(images, crops),
            totals,
            model.pop_metrics(),
            sgd.weight_stats(),
        )

    host, gpu = train(on_host), train(on_gpu)
    assert host[0].keys() == gpu[0].keys()
    for name in host[0]:
        np.testing.assert_array_equal(host[0][name], gpu[0][name], err_msg=name)
    np.testing.assert_array_equal(host[1], gpu[1])
    assert host[2:] == gpu[2:]


@pytest.mark.parametrize("above", [Conv(4, 3), Linear(4)])
def test_gradients_cross_while_those_of_weights_are_computed(fake_cuda, above):
    """A copy waits for the data gradient of the layer above, and not for its other two kernels."""
    net = Net("tiny", (3, 9, 8), (Conv(4, 3), above, Linear(3, activation="")), SCALED)
    model = Model(net, "cuda:0,cuda:1", 8)
    images, labels = np.zeros((8, 9, 8, 3), np.uint8), np.zeros(8, np.int32)
    crops = np.zeros((8, 3), np.int32)
    model.logits(images, crops)
    assert _Runtime.not_awaited and not any(_Runtime.not_awaited)
    forward = len(_Runtime.not_awaited)
    model.forward_backward(images, labels, crops, seed=0, step=0)
    backward = _Runtime.not_awaited[2 * forward :]
    assert backward and min(backward) == 2


def test_the_stand_ins_have_what_cupy_has():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)
    for stand_in, real in [
        (_Array, cupy.ndarray),
        (_Device, cupy.cuda.Device),
        (_Stream, cupy.cuda.Stream),
        (_Event, cupy.cuda.Event),
        (_Runtime, cupy.cuda.runtime),
        (_Memory, cupy.cuda.MemoryPointer),
    ]:
        ours = {"clock", "touch", "peers", "pinned", "not_awaited"}
        used = {name for name in vars(stand_in) if not name.startswith("_")} - ours
        assert used <= set(dir(real)), stand_in
    assert {"ptr", "synchronize", "__enter__"} <= set(dir(cupy.cuda.Stream.null))
    assert {"id", "__enter__"} <= set(dir(cupy.cuda.Device))
    assert {"device", "__cuda_array_interface__"} <= set(dir(cupy.ndarray))
