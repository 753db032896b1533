"""Replicas: slices and launchers by themselves; jobs under mpirun, and their accidents."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest

from helpers import target, tiny
from pyalexnet import device as devices
from pyalexnet.commands import train as train_command
from pyalexnet.errors import DeviceError, MachineError, UserError
from pyalexnet.model import Model
from pyalexnet.nn import zoo
from pyalexnet.nn.arena import Arena
from pyalexnet.parallel import communicator as replicas
from pyalexnet.parallel.gradient_sum import GradientSum, Slice, slices
from pyalexnet.parallel.nccl import NcclSum, unique_id
from pyalexnet.training.checkpoint import Checkpoint, load

HOST = devices.get("host")
TESTS = Path(__file__).parents[1]
#: The batch leaves 2 images for an epoch's last step, so that two of four replicas get none.
OPTIONS: dict[str, Any] = {"batch_size": 7, "epochs": 4, "lr": 0.02}
STEPS = 5 * 4
#: Gradients are sums of at most 7 images' terms, regrouped. Each step that rounds another way moves
#: a weight by some 2^-24 of its size, and momentum repeats that up to 10 times; in 20 steps errors
#: of either sign add up to a few times that.
TOLERANCE = 20 * 2.0**-23
SECONDS = 60 if target.IS_HOST else 200  # in which any job here ends, or it hangs
#: As many replicas as there may be: each has GPUs of its own.
MOST = 4 if target.IS_HOST else target.DEVICE.lib.device_count() // len(set(target.NAMES))
SIZES = [size for size in (2, 4) if size <= MOST]


# --- without MPI ---


def arena(**sizes: int) -> Arena:
    """Gradients of layers of so many floats."""
    return Arena(HOST, {f"{layer}.{kind}": (n,) for layer, n in sizes.items() for kind in "wb"})


@pytest.mark.host_only("computes nothing")
def test_slices_cover_the_arena_downwards_and_hold_whole_layers() -> None:
    gradients = arena(conv1=64, conv2=256, conv3=64, fc4=640)
    # In floats: 128, 512, 128, 1280. conv3 is too small alone; conv1 is what is left.
    assert slices(gradients, 1, smallest=4 * 200) == [
        Slice(1, "fc4", 768, 2048),
        Slice(1, "conv2", 128, 768),
        Slice(1, "conv1", 0, 128),
    ]
    assert slices(gradients, smallest=1 << 30) == [Slice(0, "conv1", 0, 2048)]
    assert [s.layer for s in slices(gradients, smallest=1)] == ["fc4", "conv3", "conv2", "conv1"]


@pytest.mark.host_only("computes nothing")
def test_slices_of_alexnet_are_worth_a_message() -> None:
    shapes = {name: p.shape for name, p in zoo.alexnet().parameters().items()}
    gradients = SimpleNamespace(
        names=tuple(shapes), starts=np.cumsum([0, *(int(np.prod(s)) for s in shapes.values())])
    )
    found = slices(gradients)  # type: ignore[arg-type]
    assert [s.layer for s in found] == [
        "fc8",
        "fc7",
        "fc6",
        "conv5",
        "conv4",
        "conv3",
        "conv2",
        "conv1",
    ]
    assert found[-1].start == 0
    assert all(4 * (s.end - s.start) >= 1 << 20 for s in found[:-1])
    assert sum(s.end - s.start for s in found) == 60_965_224


class Recorder:
    """An engine that doubles, and notes what it is asked for."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self.finished = 0

    def start(self, array: np.ndarray) -> None:
        self.arrays.append(array)
        array *= 2

    def poll(self) -> None:
        pass

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.host_only("computes nothing")
def test_gradient_sums_begin_under_way_and_in_one_order() -> None:
    parts: Any = [SimpleNamespace(device=HOST, gradients=arena(a=1 << 18, b=1 << 18)) for _ in "01"]
    for part in parts:
        part.gradients.flat[...] = 1
    engines = [Recorder(), Recorder()]
    sums = GradientSum(parts, engines)
    for _ in range(2):
        for engine in engines:
            engine.arrays.clear()
        sums.ready(1, "b")  # waits for the first tower's
        assert [len(engine.arrays) for engine in engines] == [0, 0]
        sums.ready(0, "pool")
        sums.ready(0, "b")
        assert [len(engine.arrays) for engine in engines] == [1, 1]
        sums.ready(0, "a")
        assert [len(engine.arrays) for engine in engines] == [2, 1]
        sums.finish()
        assert [len(engine.arrays) for engine in engines] == [2, 2]
    assert [engine.finished for engine in engines] == [2, 2]
    assert all((part.gradients.flat == 4).all() for part in parts)
    assert sums.bytes == 2 * sum(part.gradients.flat.nbytes for part in parts)
    sums.skip()
    assert not any(part.gradients.flat.any() for part in parts)


def test_a_model_tells_its_layers_from_the_last() -> None:
    model, told = Model(tiny.NET, target.NAME, 2), []

    def ready(part: int, layer: str) -> None:
        gradients = model.gradients().items()
        done = {name.partition(".")[0] for name, gradient in gradients if gradient.any()}
        told.append((part, layer, sorted(done)))

    images, crops = np.full((2, 8, 8, 3), 200, np.uint8), np.zeros((2, 3), np.int32)
    images[1] = 50
    model.forward_backward(images, np.array([0, 1], np.int32), crops, seed=0, step=0, ready=ready)
    assert [layer for _, layer, _ in told] == list(reversed(tiny.NET.names))
    assert told[0] == (0, "fc3", ["fc3"])
    assert told[-1] == (0, "conv1", ["conv1", "fc2", "fc3"])


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("names", "place", "expected"),
    [
        ("host", 3, "host"),
        ("cuda:0", 0, "cuda:0"),
        ("cuda:0", 3, "cuda:3"),
        ("cuda:2", 3, "cuda:5"),
        ("cuda:0,cuda:1", 2, "cuda:4,cuda:5"),
        ("cuda:0,cuda:0", 2, "cuda:2,cuda:2"),
        ("host,host", 1, "host,host"),
        ("cuda:x", 1, "cuda:x"),  # an error later
    ],
)
def test_devices_of_a_machines_replicas(names: str, place: int, expected: str) -> None:
    assert replicas.shifted(names, place) == expected


@pytest.mark.host_only("computes nothing")
def test_cores_are_shared_unless_the_launcher_has_divided_them() -> None:
    def shares(*cores: set[int]) -> list[int]:
        return [replicas._share(cores, rank) for rank in range(len(cores))]

    machine = set(range(8))
    assert shares(machine, machine) == [4, 4]
    assert shares(machine, machine, machine) == [2, 2, 2]
    assert shares({0, 1, 2, 3}, {4, 5, 6, 7}) == [4, 4]
    assert shares({0}, {0}, {0}) == [1, 1, 1]


ALONE_HERE = {"MPI_LOCALNRANKS": "1", "MPI_LOCALRANKID": "0"}


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in replicas._LAUNCHERS:
        for variable in filter(None, variables):
            monkeypatch.delenv(variable, raising=False)


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"}, (2, 4, False)),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, None),
        ({"PMI_SIZE": "8", "PMI_RANK": "5", "MPI_LOCALNRANKS": "2"}, (5, 8, False)),
        ({"PMI_SIZE": "1", "PMI_RANK": "0", "PMIX_RANK": "0"}, None),
        ({"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "0"}, (0, 2, False)),
        ({"PMIX_RANK": "1"}, (1, None, False)),
        ({"PMIX_RANK": "0"}, (0, None, True)),
        ({"PALS_RANKID": "3"}, (3, None, False)),
        ({"ALPS_APP_PE": "1"}, (1, None, False)),
        ({"FLUX_JOB_SIZE": "2", "FLUX_TASK_RANK": "1"}, (1, 2, False)),
        ({"FLUX_JOB_SIZE": "1", "FLUX_TASK_RANK": "0"}, None),
        ({"JSM_NAMESPACE_SIZE": "2", "JSM_NAMESPACE_RANK": "0"}, (0, 2, False)),
        # MPICH with a process on each machine: alone only if it says so
        ({"PMI_SIZE": "1", "PMI_RANK": "0"} | ALONE_HERE, None),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"} | ALONE_HERE, (0, 2, False)),
        ({"PMI_ID": "0"} | ALONE_HERE, (0, None, True)),  # mpirun -pmi-port
        ({"PMI_ID": "1"} | ALONE_HERE, (1, None, False)),
        (
            {"PMI_ID": "1", "MPI_LOCALNRANKS": "2", "MPI_LOCALRANKID": "1"},
            (1, 2, False),
        ),
        ({"SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "2"}, (2, 3, False)),
        ({"SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "0"}, (0, 3, False)),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "PMIX_RANK": "0"}, None),
        ({"SLURM_STEP_NUM_TASKS": "1", "PMI_SIZE": "2", "PMI_RANK": "1"}, (1, 2, False)),
        # mpirun -n 1 within srun -n 4
        (
            {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}
            | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"},
            (0, 4, True),
        ),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, (0, None, True)),  # a batch script
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": ""}, None),
        ({"PMI_SIZE": "many", "PMI_RANK": "-1", "SLURM_PROCID": "\u0663"}, None),
    ],
)
def test_launchers_are_known(
    monkeypatch: pytest.MonkeyPatch,
    no_launcher: None,
    environment: dict[str, str],
    expected: tuple[int, int | None, bool] | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert replicas.launched() == expected


@pytest.mark.host_only("computes nothing")
def test_several_processes_need_mpi4py(
    monkeypatch: pytest.MonkeyPatch, no_launcher: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or they would all write one folder."""
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert replicas.join().size == 1
    monkeypatch.setenv("PMI_SIZE", "1")
    assert replicas.join().size == 1
    monkeypatch.delenv("PMI_SIZE")
    monkeypatch.setenv("SLURM_PROCID", "0")  # a batch script of one process
    capsys.readouterr()
    assert replicas.join().size == 1
    assert capsys.readouterr().err.endswith("training alone\n")
    monkeypatch.setenv("PMI_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("PMI_RANK", rank)
        assert train_command.main([]) == 2
        printed = capsys.readouterr().err
        assert ("has started 2 processes" in printed) == ("[mpi]" in printed) == (rank == "0")


@pytest.mark.host_only("computes nothing")
def test_a_process_that_fails_alone_ends_though_abort_returns(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Left(BaseException):
        pass

    def leave(status: int) -> NoReturn:
        raise Left(status)

    monkeypatch.setattr(replicas.os, "_exit", leave)
    aborted: list[int] = []
    for error, status, message in (
        (UserError("a\x1b]0;owned\x07 is 1"), 2, "replica 3: a\\x1b]0;owned\\x07 is 1"),
        (MachineError("full"), 1, "replica 3: full"),
        (MemoryError(), 1, "replica 3: not enough memory"),
    ):
        job: Any = object.__new__(replicas.MpiProcess)
        job.rank, job.failed_together = 3, False
        job._world = SimpleNamespace(Abort=aborted.append)
        with pytest.raises(Left) as left, job:
            raise error
        assert left.value.args == (aborted.pop(),) == (status,)
        assert capfd.readouterr().err == f"{message}\n"


@pytest.mark.host_only("computes nothing")
def test_nccl_sums_on_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of CuPy, in order, against a stand-in."""
    log: list[tuple[Any, ...]] = []

    class Stream:
        def __init__(self, ptr: int = 2, non_blocking: bool = False) -> None:
            self.ptr = ptr

        def record(self) -> str:
            return f"event of {self.ptr}"

        def wait_event(self, event: str) -> None:
            log.append((self.ptr, "waits", event))

    class Communicator:
        def __init__(self, count: int, unique: Any, rank: int) -> None:
            log.append((count, unique, rank))

        def allReduce(self, *arguments: Any) -> None:
            log.append(arguments)

    nccl: Any = ModuleType("cupy.cuda.nccl")
    nccl.NcclCommunicator, nccl.NcclError = Communicator, RuntimeError
    nccl.NCCL_FLOAT32, nccl.NCCL_SUM, nccl.available = 7, 0, False
    for name in ("cupy", "cupy.cuda"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", nccl)
    gpu: Any = SimpleNamespace(
        name="cuda:0",
        _device=nullcontext(),
        _stream=Stream(1),
        _cuda=SimpleNamespace(Stream=Stream),
    )

    with pytest.raises(DeviceError, match="pip install nvidia-nccl"):
        unique_id()
    nccl.available = True
    engine = NcclSum(gpu, 1, 2, "id")
    engine.start(SimpleNamespace(data=SimpleNamespace(ptr=4096), size=10))
    engine.finish()
    assert log == [
        (2, "id", 1),
        (2, "waits", "event of 1"),
        (4096, 4096, 10, 7, 0, 2),
        (1, "waits", "event of 2"),
    ]


# --- jobs ---


@functools.cache
def mpirun() -> str:
    """The mpirun that belongs to mpi4py, or skips the test."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install 'pyalexnet[mpi]'")
    beside = Path(sys.executable).with_name("mpirun")
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if not found:
        pytest.skip("there is no mpirun")
    return found


def need_gpus(size: int) -> None:
    """Skips the test unless so many replicas can run here."""
    if size > MOST:
        pytest.skip(f"{size} replicas need GPUs of their own; there are enough for {MOST}")
    if size and not target.IS_HOST and not import_module("cupy.cuda.nccl").available:
        pytest.skip("replicas on GPUs need NCCL, which CuPy does not find")


def job(size: int, folder: Path, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run helpers/replica.py in so many processes; none: without mpirun."""
    need_gpus(size)
    tiny.options(folder)
    launch = [mpirun(), "-n", str(size)] if size else []
    command = [*launch, sys.executable, str(TESTS / "helpers" / "replica.py"), str(folder), *words]
    path = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        # mpirun's own number is known to what it starts.
        ["sh", "-c", 'MPIRUN_PID=$$ exec "$@"', "sh", *command],
        # NCCL's stand-in says before that time who is missing.
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(path), "EMU_NCCL_TIMEOUT": str(SECONDS // 2)}
        | more,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
    )


def succeed(size: int, folder: Path, output: str, *words: str) -> Checkpoint:
    """Run a job with OPTIONS to its end; give its last checkpoint."""
    done = job(size, folder, output, *words, *given(**OPTIONS))
    assert (done.returncode, done.stderr) == (0, "")
    return last(folder, output)


def given(**options: Any) -> list[str]:
    return [f"{name}={str(value).lower()}" for name, value in options.items()]


def last(folder: Path, output: str) -> Checkpoint:
    return load(folder / output / "last.safetensors")


def tensors(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    return {"mean": checkpoint.mean, **checkpoint.model, **checkpoint.optimiser}


def assert_same_bits(one: Checkpoint, other: Checkpoint) -> None:
    for name, array in tensors(one).items():
        assert array.tobytes() == tensors(other)[name].tobytes(), name
    assert one.progress == other.progress


def assert_close(one: Checkpoint, other: Checkpoint) -> None:
    """The same but for the order in which images' gradients were added."""
    for name, array in tensors(one).items():
        largest = float(np.abs(array).max())
        np.testing.assert_allclose(
            tensors(other)[name], array, rtol=0, atol=TOLERANCE * largest, err_msg=name
        )
    assert one.progress.step == other.progress.step == STEPS


def assert_close_runs(one: Path, other: Path) -> None:
    assert_close(load(one / "last.safetensors"), load(other / "last.safetensors"))
    for line, others in zip(tiny.records(one), tiny.records(other), strict=True):
        assert others == pytest.approx(line, rel=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data, and runs of one, two and four processes that nothing has interrupted."""
    need_gpus(2)
    folder = tmp_path_factory.mktemp("replicas")
    tiny.run(folder, "1", **OPTIONS)
    for size in SIZES:
        succeed(size, folder, str(size))
    return folder


def test_any_number_of_processes_reaches_the_same_weights(folder: Path) -> None:
    one = last(folder, "1")
    start = Model(one.net, target.NAME, 1, seed=5)
    for name, array in start.state().items():  # far from where they began
        assert np.abs(one.model[name] - array).max() > 100 * TOLERANCE
    for size in map(str, SIZES):
        assert_close_runs(folder / "1", folder / size)
        assert sorted(os.listdir(folder / size)) == sorted(os.listdir(folder / "1"))
    assert tensors(one)["conv1.weight"].tobytes() != (
        tensors(last(folder, "2"))["conv1.weight"].tobytes()
    )


def test_replicas_may_each_be_split_in_two_towers(folder: Path, tmp_path: Path) -> None:
    one = last(folder, "1")
    done = job(2, folder, "pairs", *given(**OPTIONS, device=f'"{target.PAIR}"'))
    assert (done.returncode, done.stderr) == (0, "")
    pairs = tensors(last(folder, "pairs"))
    for name, array in tensors(one).items():
        # Both regroup sums, the towers those of gradients of maps, too.
        np.testing.assert_allclose(pairs[name], array, rtol=0, atol=10 * TOLERANCE, err_msg=name)


def test_a_net_with_branches_trains_on_replicas(folder: Path) -> None:
    net = tiny.write_net(folder / "branched.json", tiny.BRANCHED)
    tiny.run(folder, "branched-1", **OPTIONS, net=str(net))
    done = job(2, folder, "branched-2", *given(**OPTIONS), f'net="{net}"')
    assert (done.returncode, done.stderr) == (0, "")
    assert last(folder, "branched-2").net == tiny.BRANCHED
    assert_close_runs(folder / "branched-1", folder / "branched-2")


def test_the_same_number_of_processes_gives_the_same_bits(folder: Path) -> None:
    assert_same_bits(succeed(2, folder, "again"), last(folder, "2"))


@pytest.mark.parametrize(
    ("accident", "who", "size", "resumed"),
    [("interrupt", "1", 2, 2), ("interrupt", "1", 2, 4), ("mpirun", "-1", 4, 0)],
)
def test_a_signal_to_any_stops_all_and_another_number_goes_on(
    folder: Path, accident: str, who: str, size: int, resumed: int
) -> None:
    """In the middle of an epoch; by mpirun, all get the signal."""
    output = f"{accident}-{resumed}"
    stopped = job(size, folder, output, accident, who, "7", *given(**OPTIONS))
    assert stopped.returncode == 130
    assert stopped.stdout.count("stopped after step 7 ") == 1
    progress = last(folder, output).progress
    assert (progress.step, progress.position, progress.totals.images) == (7, 2, 14)
    done = job(resumed, folder, output, *given(resume=True))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("resumed after step 7") == 1
    assert_close_runs(folder / "1", folder / output)
    if size == resumed:
        assert_same_bits(last(folder, output), last(folder, str(size)))
        assert tiny.records(folder / output) == tiny.records(folder / str(size))


@pytest.mark.parametrize(("accident", "status"), [("kill", 9), ("fail", 1)])
def test_a_replica_that_dies_ends_the_job(folder: Path, accident: str, status: int) -> None:
    """After the first epoch, which is saved."""
    ended = job(2, folder, accident, accident, "1", "7", *given(**OPTIONS))
    assert ended.returncode not in (0, 130)
    if accident == "fail":
        assert ended.returncode == status
        assert ended.stderr.count("replica 1: Traceback") == 1
        assert "ZeroDivisionError: a bug" in ended.stderr
    assert last(folder, accident).progress.step == 5
    if accident == "kill":
        done = job(0, folder, accident, *given(resume=True))
        assert (done.returncode, done.stderr) == (0, "")
        assert_close_runs(folder / "1", folder / accident)


def test_what_one_replica_cannot_read_is_said_once_and_loses_nothing(tmp_path: Path) -> None:
    done = job(2, tmp_path, "run", "damage", "0", "5", *given(**OPTIONS))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "error: replica 1: " in line
    assert "--skip-bad-images" in line
    saved = last(tmp_path, "run").progress
    assert (saved.step, saved.totals.images) == (9, 4 * 7)

    done = job(2, tmp_path, "run", *given(resume=True, skip_bad_images=True))
    assert (done.returncode, done.stderr) == (0, "")
    skipped = [line["skipped"] for line in tiny.records(tmp_path / "run")]
    assert skipped == [0, 1, 1, 1]  # also when both have found it


#: Errors, the exit status, and the message as it is shown.
ERRORS = [
    ("errors.MachineError('f: No space left')", 1, "f: No space left"),
    ("MemoryError('12 GB')", 1, "not enough memory: 12 GB"),
    (
        "OSError(5, 'Input/output error', 'f\\x1b]0;g\\x07')",
        1,
        "f\\x1b]0;g\\x07: Input/output error",
    ),
    ("KeyboardInterrupt()", 130, "interrupted"),
]
FAILING = """
import sys
from pyalexnet import errors
from pyalexnet.commands import common, train
from pyalexnet.parallel.communicator import join

def run(_):
    with join() as job:
        def act(rank):
            if job.rank == rank:
                raise {error}
            return 1
        {place}
        job.any(False)
    return 0

sys.exit(common.run(train.parser(), run, []))
"""


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("place", "rank"),
    [
        ("job.on_rank_0(lambda: act(0))", 0),
        ("job.raise_everywhere(lambda: act(1))", 1),
        ("act(1)", 1),
    ],
    ids=["on rank 0", "everywhere", "alone"],
)
def test_an_error_of_one_process_ends_all_and_is_said_once(
    tmp_path: Path, place: str, rank: int
) -> None:
    for error, status, message in ERRORS:
        code = FAILING.format(error=error, place=place)
        command = [mpirun(), "-n", "2", sys.executable, "-c", code]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == status, (error, done.stderr)
        # MPI says, too, that a process has ended the job.
        printed = done.stdout + done.stderr
        told = [line for line in printed.split("\n") if message in line]
        assert len(told) == 1, (error, printed)
        assert told[0] in (
            f"pyalexnet-train: error: {message}",
            f"pyalexnet-train: error: replica {rank}: {message}",
            f"replica {rank}: {message}",
        )
        assert "Traceback" not in printed


def test_weights_that_differ_are_an_error(tmp_path: Path) -> None:
    done = job(2, tmp_path, "run", "weight", "1", "7", *given(**OPTIONS))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "replicas differ: checksum of weights and momentum after step 10 of replica 1" in line
    assert last(tmp_path, "run").progress.step == 5


def test_a_mistake_is_said_once(tmp_path: Path) -> None:
    for wrong, message in (
        (f'data="folder:{tmp_path}/none"', f"{tmp_path}/none: no such folder"),
        ("batch_size=1", "batch-size is 1; expected at least an image for each of the 2 replicas"),
        ("lr=1e30", "training diverged by step"),
    ):
        done = job(2, tmp_path, "run", *given(**OPTIONS), wrong)
        assert done.returncode == 2, wrong
        [line] = done.stderr.splitlines()
        assert line.startswith(f"pyalexnet-train: error: {message}")


@pytest.mark.host_only("computes nothing")
def test_gpus_of_a_machine_must_be_enough(tmp_path: Path) -> None:
    done = job(2, tmp_path, "run", 'device="cuda:7"')
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "replica 0: device cuda:7: " in line
    assert "Each of the 2 replicas on this machine needs its own GPUs" in line


@pytest.mark.host_only("computes nothing")
def test_another_mpis_launcher_is_noticed(tmp_path: Path) -> None:
    mpirun()
    foreign = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}
    done = job(0, tmp_path, "run", **foreign)
    assert done.returncode == 2
    assert "has started 2 processes, but MPI sees one" in done.stderr
    assert not (tmp_path / "run").exists()


def test_without_a_launcher_mpi4py_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from helpers import tiny; "
        "tiny.run(pathlib.Path(sys.argv[1]), epochs=1, quiet=True); "
        "sys.exit('mpi4py' in sys.modules)"
    )
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        check=True,
        timeout=SECONDS,
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.host_only("computes nothing")
def test_wrong_arguments_are_said_once(tmp_path: Path) -> None:
    code = "import sys; from pyalexnet.commands.train import main; sys.exit(main(sys.argv[1:]))"
    command = [mpirun(), "-n", "2", sys.executable, "-c", code]
    for wrong, message in (
        ("--batch-size=x", "batch-size is 'x'; expected a whole number"),
        ("--test-only", "test-only is given to 2 processes; expected 1"),
    ):
        done = subprocess.run(
            [*command, wrong], capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path
        )
        assert done.returncode == 2
        assert done.stderr.count(message) == 1


@pytest.mark.host_only("computes nothing")
def test_the_traffic_in_the_documentation_is_what_the_script_computes() -> None:
    root = TESTS.parent
    done = subprocess.run(
        [sys.executable, str(root / "benchmarks" / "traffic.py")],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    assert done.stdout.strip() in (root / "docs" / "parallel.md").read_text()
