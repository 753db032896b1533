"""Data parallel: the processes of an MPI job train one net, each on its part of every batch.

`join` gives the `Communicator`: `SingleProcess` where no launcher has started this process, else
`MpiProcess`. Gradients are summed slice by slice during the backward pass (`GradientSum`), by MPI
where they lie in the host's memory and by NCCL on GPUs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyalexnet import device as devices
from pyalexnet.cores import MOST, usable_cores
from pyalexnet.device import CudaDevice
from pyalexnet.errors import UNFORESEEN, DeviceError, MachineError, UserError, described
from pyalexnet.nn.device_net import DeviceNet
from pyalexnet.parallel import nccl
from pyalexnet.parallel.gradient_sum import Engine, GradientSum, HostSum
from pyalexnet.text import printable

T = TypeVar("T")

_IDLE_SECONDS = 0.002  # between two polls of the barrier
_FORWARD_SECONDS = 0.1  # for mpirun to print what a process has written

#: MPICH's, also where it tells no other number. There may be more processes on other machines.
_ON_THIS_MACHINE = "MPI_LOCALNRANKS"

#: What launchers tell a process: the variables of the number of processes and of its own. Those of
#: the launcher that has started the process itself come first.
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMI_SIZE", "PMI_RANK"),  # MPICH, Intel MPI
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),  # MVAPICH2
    (_ON_THIS_MACHINE, "MPI_LOCALRANKID"),
    ("FLUX_JOB_SIZE", "FLUX_TASK_RANK"),
    ("JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK"),  # jsrun's
    ("", "PMIX_RANK"),
    ("", "PMI_ID"),  # mpirun -pmi-port's
    ("", "PALS_RANKID"),  # Cray's, as the next one
    ("", "ALPS_APP_PE"),
    # srun's. A batch script has a rank, too, but no number of processes.
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)


class Launched(NamedTuple):
    """What the environment says about the job that this process is a part of."""

    rank: int
    size: int | None  #: None where no launcher tells
    may_be_alone: bool  #: a launcher says so, or none says that there are others


def launched() -> Launched | None:
    """The place that an MPI launcher has given this process; None where there is no other process.

    There may be others if a launcher says so, or says nothing of their number.
    """
    found = [(_size(size), _number(rank)) for size, rank in _LAUNCHERS]
    sizes = [size for size, _ in found if size is not None]
    ranks = [rank for _, rank in found if rank is not None]
    if any(size > 1 for size in sizes):
        rank = next((rank or 0 for size, rank in found if size is not None and size > 1), 0)
        return Launched(rank, max(sizes), may_be_alone=sizes[0] == 1 and not rank)
    if any(ranks):
        return Launched(max(ranks), None, may_be_alone=False)
    return Launched(0, None, may_be_alone=True) if ranks and not sizes else None


def _size(variable: str) -> int | None:
    size = _number(variable)
    return None if variable == _ON_THIS_MACHINE and size == 1 else size


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() else None


def join() -> Communicator:
    """The processes that train together, for a `with` statement.

    mpi4py is imported only where a launcher may have started more than one process.

    Raises
    ------
    UserError
        A launcher has started several processes that cannot find each other, for want of mpi4py or
        because its MPI is another one.
    """
    place = launched()
    if place is None:
        return SingleProcess()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI library
        if place.may_be_alone:
            print(
                "note: a batch system or launcher has started this process, and mpi4py, which "
                f"knows whether there are others, does not load ({error}): training alone",
                file=sys.stderr,
            )
            return SingleProcess()
        count = "several" if place.size is None else place.size
        raise UserError(
            f"an MPI launcher has started {count} processes, but mpi4py, by which they train "
            f"one net, does not load: {error}; pip install 'pyalexnet[mpi]', or start without "
            "a launcher"
        ) from error
    return MpiProcess(MPI, place)


class Communicator(ABC):
    """What the processes of a job do together.

    They are replicas: each trains the whole net on its part of every batch. All of them call the
    same methods in the same order.

    Attributes
    ----------
    rank, size : int
        This process's number, and how many there are.
    local_rank, local_size : int
        The same among the processes on this machine.
    cores : int, optional
        How many cores this process should use; None: all.
    failed_together : bool
        Whether all processes raise the error that this one raises, so that they can still act
        together; always so where there is only one.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    cores: int | None
    failed_together: bool

    def __enter__(self) -> Communicator:
        return self

    @abstractmethod
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the whole job where only this process has failed."""

    @abstractmethod
    def on_rank_0(self, act: Callable[[], T]) -> T:
        """Calls `act` on the first process; returns its result, or raises its UserError, in all."""

    @abstractmethod
    def raise_everywhere(self, act: Callable[[], T]) -> T:
        """Calls `act`; a UserError in any process is raised in all."""

    @abstractmethod
    def in_lockstep(self, items: Iterator[T]) -> Iterator[T]:
        """Yields the items, equally many in all processes; a UserError of one is raised in all."""

    @abstractmethod
    def fail(self, error: UserError) -> NoReturn:
        """Raises an error that all processes have met."""

    @abstractmethod
    def assert_equal(self, what: str, value: object) -> None:
        """Raises UserError in all processes unless all give the same value."""

    @abstractmethod
    def allreduce_max(self, value: float) -> float:
        """The largest of all processes' values."""

    @abstractmethod
    def allreduce_sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums of all processes' values; for a few of them."""

    @abstractmethod
    def allreduce_min(self, values: NDArray[np.int32]) -> None:
        """Replaces each of `values` by the smallest of all processes'."""

    @abstractmethod
    def local_devices(self, names: str) -> str:
        """This process's devices, where `names` are those of the first one on a machine."""

    @abstractmethod
    def gradient_sum(self, parts: Sequence[DeviceNet]) -> GradientSum:
        """What sums a model's gradients over all processes.

        Raises
        ------
        UserError
            They are not on the same kind of device, or NCCL is missing or cannot connect the GPUs.
        """

    def any(self, flag: bool) -> bool:
        """Whether any process's flag is set."""
        return bool(self.allreduce_max(flag))


class SingleProcess(Communicator):
    """The only process of a job."""

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        self.local_rank, self.local_size = 0, 1
        self.cores = None
        self.failed_together = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def on_rank_0(self, act: Callable[[], T]) -> T:
        return act()

    def raise_everywhere(self, act: Callable[[], T]) -> T:
        return act()

    def in_lockstep(self, items: Iterator[T]) -> Iterator[T]:
        return items

    def fail(self, error: UserError) -> NoReturn:
        raise error

    def assert_equal(self, what: str, value: object) -> None:
        pass

    def allreduce_max(self, value: float) -> float:
        return value

    def allreduce_sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values

    def allreduce_min(self, values: NDArray[np.int32]) -> None:
        pass

    def local_devices(self, names: str) -> str:
        return names

    def gradient_sum(self, parts: Sequence[DeviceNet]) -> GradientSum:
        return GradientSum(parts, [])


class MpiProcess(Communicator):
    """One of the processes of an MPI job."""

    def __init__(self, mpi: Any, place: Launched) -> None:
        self._mpi = mpi
        self._world: Any = mpi.COMM_WORLD
        self.rank, self.size = self._world.rank, self._world.size
        if self.size == 1 and not place.may_be_alone:
            library = mpi.Get_library_version().splitlines()[0].strip()
            raise UserError(
                f"a launcher has started {place.size or 'several'} processes, but MPI sees one: "
                f"mpi4py has loaded {library}, and mpirun is another MPI's; take the mpirun beside "
                f"{sys.executable}"
            )
        local = self._world.Split_type(mpi.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = local.rank, local.size
        self.cores = _share(local.allgather(usable_cores()), local.rank)
        self.failed_together = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or self.failed_together:
            return
        status = 1
        if isinstance(error, UserError):
            text, status = str(error), 1 if isinstance(error, MachineError) else 2
        elif isinstance(error, UNFORESEEN):
            text = described(error)
        elif isinstance(error, KeyboardInterrupt):
            text, status = "interrupted", 130
        else:
            text = "".join(traceback.format_exception(kind, error, trace)).rstrip()
        lines = [printable(line) for line in f"replica {self.rank}: {text}".split("\n")]
        with contextlib.suppress(OSError):
            # In one write, lest another process's line begins within it.
            print("\n".join([*lines, ""]), end="", file=sys.stderr, flush=True)
        # Ends the others, which may wait for this one for ever, once mpirun has read the text.
        time.sleep(_FORWARD_SECONDS)
        try:
            self._world.Abort(status)
        finally:  # MPICH's may return before mpirun ends this process
            os._exit(status)

    def on_rank_0(self, act: Callable[[], T]) -> T:
        value, error = None, None
        if self.rank == 0:
            try:
                value = act()
            except UserError as problem:
                error = problem
        # Blocking calls would keep the cores busy that the first replica can use.
        arrived = self._world.Ibarrier()
        while not arrived.Test():
            time.sleep(_IDLE_SECONDS)
        result: tuple[T, UserError | None] = self._world.bcast((value, error))
        if result[1] is not None:
            self.fail(result[1])
        return result[0]

    def raise_everywhere(self, act: Callable[[], T]) -> T:
        value, error = None, None
        try:
            value = act()
        except UserError as problem:
            if self.failed_together:
                raise
            error = problem
        if self.any(error is not None):
            self._fail_by(self._world.allgather(error))
        return value  # type: ignore[return-value]

    def in_lockstep(self, items: Iterator[T]) -> Iterator[T]:
        def following() -> T | None:
            return next(items, None)

        while (item := self.raise_everywhere(following)) is not None:
            yield item

    def _fail_by(self, errors: list[UserError | None]) -> NoReturn:
        """Fails with the first error, and with its replica's number unless all have the same."""
        rank, first = next((r, e) for r, e in enumerate(errors) if e is not None)
        if all(str(error) == str(first) for error in errors):
            self.fail(first)
        self.fail(type(first)(f"replica {rank}: {first}"))

    def fail(self, error: UserError) -> NoReturn:
        self.failed_together = True
        raise error

    def assert_equal(self, what: str, value: object) -> None:
        values = self._world.allgather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                self.fail(
                    UserError(
                        f"replicas differ: {what} of replica {rank} is {other}, "
                        f"that of replica 0 is {values[0]}"
                    )
                )

    def allreduce_max(self, value: float) -> float:
        largest = np.array(float(value))
        self._world.Allreduce(self._mpi.IN_PLACE, largest, op=self._mpi.MAX)
        return float(largest)

    def allreduce_sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.array(values, np.float64)
        self._world.Allreduce(self._mpi.IN_PLACE, total)
        return total

    def allreduce_min(self, values: NDArray[np.int32]) -> None:
        self._world.Allreduce(self._mpi.IN_PLACE, values, op=self._mpi.MIN)

    def local_devices(self, names: str) -> str:
        own = shifted(devices.own_names(names), self.local_rank)
        for name in own.split(","):
            kind, _, index = name.partition(":")
            problem = devices.cuda_problem(int(index)) if kind == "cuda" and index.isdigit() else ""
            if problem:
                raise DeviceError(
                    f"device {name}: {problem}. Each of the {self.local_size} replicas on this "
                    "machine needs its own GPUs; start fewer, or take --device cpu"
                )
        return own

    def gradient_sum(self, parts: Sequence[DeviceNet]) -> GradientSum:
        # By name: there must not be two communicators for one GPU.
        engines: dict[str, Engine] = {}
        self.assert_equal("kind of devices", [part.device.name[:4] for part in parts])
        for part in parts:
            at = part.device
            if at.name in engines:
                continue
            if isinstance(at, CudaDevice):
                unique = self.on_rank_0(nccl.unique_id)
                engines[at.name] = nccl.NcclSum(at, self.rank, self.size, unique)
            else:
                engines[at.name] = HostSum(self._mpi, self._world)
        return GradientSum(parts, [engines[part.device.name] for part in parts])


def shifted(names: str, place: int) -> str:
    """The devices of a machine's replica number `place`, where the first has those in `names`.

    >>> shifted("cuda:0,cuda:1", 2)
    'cuda:4,cuda:5'
    """
    parts = names.split(",")
    gpus = len({part for part in parts if part.startswith("cuda:")})
    shift = place * gpus

    def name(part: str) -> str:
        kind, _, index = part.partition(":")
        number = int(index) if kind == "cuda" and index.isascii() and index.isdigit() else None
        return part if number is None else f"cuda:{number + shift}"

    return ",".join(map(name, parts))


def _share(cores: Sequence[set[int]], rank: int) -> int:
    """How many cores a machine's replica shall use, given those that each may run on.

    A launcher may have divided them already.
    """
    return min(MOST, len(cores[rank]), max(1, len(set().union(*cores)) // len(cores)))
