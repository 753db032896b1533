"""Devices: arrays, errors, and all CUDA paths against stand-ins for CuPy and `_cuda`."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from pyalexnet import device as devices
from pyalexnet import ops
from pyalexnet.errors import DeviceError
from pyalexnet.layers import LRN, Conv, Dropout, Linear, MaxPool
from pyalexnet.model import Model
from pyalexnet.nets import Net

HOST = devices.get("host")


@pytest.mark.parametrize("make", [HOST.empty, HOST.zeros])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5, 7), (1 << 21,)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float64])
def test_host_arrays_are_aligned_and_contiguous(make, shape, dtype):
    array = make(shape, dtype)
    assert (array.shape, array.dtype) == (shape, dtype)
    assert array.ctypes.data % 64 == 0
    assert array.flags.c_contiguous and array.flags.writeable


def test_host_zeros_are_zeros():
    assert not HOST.zeros((1000,)).any()


def test_upload_and_download_copy():
    source = np.arange(6, dtype=np.int64).reshape(2, 3).T  # not contiguous
    array = HOST.upload(source)
    assert (array.dtype, array.flags.c_contiguous) == (np.int64, True)
    copy = HOST.download(array)
    array[0, 0] = 99
    assert source[0, 0] == copy[0, 0] == 0
    np.testing.assert_array_equal(copy, source)


def test_copy_in_converts_and_never_broadcasts():
    out = HOST.zeros((2, 3))
    HOST.copy_in(out, np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(out, [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(ValueError, match=r"\(3,\).*\(2, 3\)"):
        HOST.copy_in(out, np.zeros(3))


def test_images_are_padded_to_the_multiple():
    multiple = HOST.images_multiple
    assert [HOST.pad_images(n) for n in (1, multiple, multiple + 1)] == [
        multiple,
        multiple,
        2 * multiple,
    ]


def test_a_name_gives_one_device():
    assert devices.get("host") is HOST
    assert devices.of(np.zeros(3)) is HOST


@pytest.mark.parametrize("name", ["gpu", "cuda", "cuda:", "cuda:-1", "cuda:x", "", "host:0"])
def test_unknown_names(name):
    with pytest.raises(DeviceError, match="expected host or cuda:<index>"):
        devices.get(name)


def test_of_refuses_other_things():
    with pytest.raises(TypeError, match="got list"):
        devices.of([1.0])


def _cuda_module(count: int, error: str = "") -> ModuleType:
    lib = ModuleType("pyalexnet._cuda")
    lib.device_count = lambda: count
    lib.device_error = lambda: error
    lib.IMAGES_MULTIPLE = HOST.images_multiple
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
        "import sys; from pyalexnet import model, nets;"
        "model.Model(nets.small(), 'host', 1); print('cupy' in sys.modules)"
    )
    # Not in the source folder, which would hide the installed package.
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path)
    assert output.strip() == "False"


# Stand-ins for CuPy: arrays that NumPy and the host's kernels refuse, that know their device, and
# that complain when used while another device is current or on another stream.


class _Current:
    device = 0
    stream = None


class _Device:
    def __init__(self, index):
        self.id = index

    def __enter__(self):
        self._before, _Current.device = _Current.device, self.id

    def __exit__(self, *_):
        _Current.device = self._before


class _Stream:
    def __init__(self):
        self.device = _Current.device
        self.ptr = 1000 + self.device

    def __enter__(self):
        assert _Current.device == self.device
        self._before, _Current.stream = _Current.stream, self

    def __exit__(self, *_):
        _Current.stream = self._before

    def synchronize(self):
        pass


class _Memory:
    def __init__(self, values):
        self._values = values

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
    data = property(lambda self: _Memory(self.values))

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
        self.values[...] = values

    def get(self, stream=None):
        assert stream.device == self.device.id == _Current.device
        return self.values.copy()


class _CudaLib:
    """`_host` behind checks of what `_cuda` would get."""

    IMAGES_MULTIPLE = HOST.images_multiple

    def device_count(self):
        return 2

    def device_error(self):
        return ""

    def __getattr__(self, name):
        function = getattr(HOST.lib, name)
        if name == "conv_backward_weights_workspace":
            return function

        def kernel(*args):
            *args, stream = args
            assert stream == 1000 + _Current.device
            for arg in args:
                assert not isinstance(arg, np.ndarray), f"{name} got an array of the host"
                assert not isinstance(arg, _Array) or arg.device.id == _Current.device
            function(*(arg.values if isinstance(arg, _Array) else arg for arg in args), 0)

        return kernel


@pytest.fixture
def fake_cuda(monkeypatch):
    cupy = ModuleType("cupy")
    cupy.ndarray = _Array
    cupy.cuda = SimpleNamespace(Device=_Device, Stream=_Stream)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "pyalexnet._cuda", _CudaLib())
    monkeypatch.setattr(devices, "get", devices.functools.cache(devices.get.__wrapped__))


def test_cuda_arrays(fake_cuda):
    gpu = devices.get("cuda:1")
    assert (gpu.name, gpu.stream, repr(gpu)) == ("cuda:1", 1001, "<device cuda:1>")
    array = gpu.upload(np.arange(6, dtype=np.int32).reshape(2, 3).T)
    assert devices.of(array) is gpu
    np.testing.assert_array_equal(gpu.download(array), [[0, 3], [1, 4], [2, 5]])
    gpu.copy_in(array, np.ones((3, 2)))
    np.testing.assert_array_equal(gpu.download(array), np.ones((3, 2)))
    assert not gpu.download(gpu.zeros((3,), np.float64)).any()
    gpu.synchronize()
    assert devices.default_name() == "cuda:0"


def test_a_model_on_a_gpu_does_as_on_the_host(fake_cuda):
    net = Net(
        "tiny",
        (3, 9, 8),
        (
            Conv(6, 3, pad=1),
            LRN(groups=2),
            MaxPool(),
            Conv(4, 3, groups=2, activation="tanh"),
            Linear(7),
            Dropout(),
            Linear(5, activation=""),
        ),
        scale=1 / 64,
    )
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (6, 10, 10, 3), dtype=np.uint8)
    labels = rng.integers(0, 5, 6).astype(np.int32)
    crops = rng.integers(0, 2, (6, 3)).astype(np.int32)

    def train(name):
        model = Model(net, name, 8, seed=5)
        at, arenas = model.device, (model.weights, model.gradients, model.momenta)
        count = len(model.weights.names)
        model.set_mean(np.full((10, 10, 3), 120, np.float32))
        for step in range(3):
            model.train_step(images, labels, crops, seed=1, step=step)
            ops.sgd(
                *(arena.flat for arena in arenas),
                at.upload(model.weights.starts),
                at.upload(np.full(count, 0.1, np.float32)),
                at.upload(np.full(count, 0.01, np.float32)),
                momentum=0.9,
            )
        totals = model.take_totals()
        model.load_momenta(model.momenta_state())
        model.eval_step(images, labels, crops)
        return (
            model.state() | {f"momentum of {k}": v for k, v in model.momenta_state().items()},
            model.probabilities(images, crops),
            totals,
            model.take_totals(),
            model.magnitudes(),
        )

    host, gpu = train("host"), train("cuda:1")
    assert host[0].keys() == gpu[0].keys()
    for name in host[0]:
        np.testing.assert_array_equal(host[0][name], gpu[0][name], err_msg=name)
    np.testing.assert_array_equal(host[1], gpu[1])
    assert host[2:] == gpu[2:]


def test_the_stand_ins_have_what_cupy_has():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)
    for stand_in, real in [
        (_Array, cupy.ndarray),
        (_Device, cupy.cuda.Device),
        (_Stream, cupy.cuda.Stream),
        (_Memory, cupy.cuda.MemoryPointer),
    ]:
        used = {name for name in vars(stand_in) if not name.startswith("_")}
        assert used <= set(dir(real)), stand_in
    assert {"ptr", "synchronize", "__enter__"} <= set(dir(cupy.cuda.Stream.null))
    assert {"id", "__enter__"} <= set(dir(cupy.cuda.Device))
    assert {"device", "__cuda_array_interface__"} <= set(dir(cupy.ndarray))
