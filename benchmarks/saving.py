"""`python -m benchmarks.saving <large or small> <rounds> <folder>`: a state saved and restored in several ways.

Prints JSON: by way, the samples of each figure. Before each sample its floor is taken anew, as the machine is
not as fast a second later: one memcpy into a buffer that is used again and again; one file written and synced,
then put in the place of the old; one file read into fresh memory. Virtual machines give free memory back to
their host, and getting it again costs more than all else here: so it is got again before each part,
and what was written before is synced.
"""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Protocol

import torch

from crown_exp.checkpoints import Keep
from crown_exp.checkpoints.base import Saved
from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.folder import RunPaths
from crown_exp.storage import Portal, open_blobs

State = dict[str, torch.Tensor]

SIZES = {"large": (12, 444), "small": (5, 80)}
"""Blocks, and the width of each."""

RUN = "r261129-bench1"
LIBC = ctypes.CDLL(None)
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


def make_state(blocks: int, width: int) -> State:
    """Weights, AdamW's two moments and its step of each weight; 32 tensors a block."""
    layers = {
        "q": (width, width), "k": (width, width), "v": (width, width), "o": (width, width),
        "up": (width, 4 * width), "down": (4 * width, width), "norm1": (width,), "norm2": (width,),
    }  # fmt: skip
    return {
        f"{block}.{name}.{kind}": torch.randn(shape) if kind != "step" else torch.tensor(1.0)
        for block in range(blocks)
        for name, shape in layers.items()
        for kind in ("weight", "exp_avg", "exp_avg_sq", "step")
    }


def small_state(blocks: int, width: int) -> State:
    """40 tensors, 1 MB."""
    return {f"{block}.{n}": torch.randn(width, width) for block in range(blocks) for n in range(8)}


class Way(Protocol):
    """One way to save a state into a folder and to read it again."""

    def save(self, step: int, state: State) -> None:
        """Begin to save; what the training has to wait for."""

    def finish(self) -> None:
        """Until it is durable."""

    def restore(self) -> State:
        """The state that was saved last."""


class Ours:
    """Every byte is hashed when it is saved, and again when it is read."""

    def __init__(self, folder: Path, portal: Portal) -> None:
        self.blobs, self.portal = open_blobs(str(folder)), portal
        portal.call(self.blobs.put, RunPaths(RUN).attempt(1), b"{}")
        portal.call(self.blobs.put, RunPaths(RUN).attempt(2), b"{}")
        self.checkpoints = self.of_attempt(2)

    def of_attempt(self, attempt: int) -> Checkpoints:
        """What an attempt sees of the run's checkpoints. One is kept, as the other ways do."""
        paths = RunPaths(RUN)
        return Checkpoints(self.portal, self.blobs, paths, attempt, keep=Keep(last=1))

    def save(self, step: int, state: State) -> None:
        """See Way."""
        self.checkpoints.save(step, state)

    def busy(self) -> bool:
        """Whether a save is being written, and what it replaces removed."""
        return self.checkpoints.busy

    def finish(self) -> None:
        """See Way: without what is removed afterwards."""
        while not (told := self.checkpoints.outcomes()):
            time.sleep(5e-4)
        assert isinstance(told[-1], Saved), told

    def restore(self) -> State:
        """See Way: as the next attempt does."""
        self.checkpoints.wait()
        found = self.of_attempt(3).restore()
        assert found is not None
        return found.state  # type: ignore[no-any-return]


class OneFile:
    """A function that writes one file, which is then synced and given its name, and one that reads it."""

    def __init__(
        self, folder: Path, write: Callable[[State, Path], Any], read: Callable[[Path], State]
    ) -> None:
        self.path, self.write, self.read = folder / "state", write, read

    def save(self, step: int, state: State) -> None:
        """See Way."""
        temporary = self.path.with_name("temporary")
        self.write(state, temporary)
        sync(temporary)
        temporary.replace(self.path)
        sync(self.path.parent)

    def finish(self) -> None:
        """See Way: nothing is left to do."""

    def restore(self) -> State:
        """See Way."""
        return self.read(self.path)


class Dcp:
    """torch.distributed.checkpoint, which syncs its files. staged: behind the caller, from a buffer."""

    def __init__(self, folder: Path, staged: bool) -> None:
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        plain = StagingOptions(
            use_pinned_memory=False, use_shared_memory=False, use_async_staging=False,
            use_non_blocking_copy=False,
        )  # fmt: skip
        self.stager = DefaultStager(plain) if staged else None
        self.folder, self.like = folder, dict[str, torch.Tensor]()
        self.flight: Any = None

    def writer(self) -> Any:
        """What puts a state where it is to be."""
        import torch.distributed.checkpoint as dcp

        return dcp.FileSystemWriter(self.folder)

    def reader(self) -> Any:
        """What gets it from there."""
        import torch.distributed.checkpoint as dcp

        return dcp.FileSystemReader(self.folder)

    def save(self, step: int, state: State) -> None:
        """See Way."""
        import torch.distributed.checkpoint as dcp

        writer = self.writer()
        self.like = state
        if self.stager is None:
            dcp.save(state, storage_writer=writer, no_dist=True)
        else:
            self.flight = dcp.async_save(
                state, storage_writer=writer, async_stager=self.stager, no_dist=True
            )

    def busy(self) -> bool:
        """Whether a save is being written."""
        return self.flight is not None and not self.flight.done()

    def finish(self) -> None:
        """See Way."""
        if self.flight is not None:
            self.flight.result()

    def restore(self) -> State:
        """See Way: into fresh tensors, which it has to be given."""
        import torch.distributed.checkpoint as dcp

        state = {name: torch.empty_like(value) for name, value in self.like.items()}
        dcp.load(state, storage_reader=self.reader(), no_dist=True)
        return state


def ways(folder: Path, portal: Portal) -> dict[str, Way]:
    """All of them, in folders of their own."""
    from safetensors.torch import load_file, save_file

    def at(name: str) -> Path:
        (folder / name).mkdir(parents=True)
        return folder / name

    return {
        "ours": Ours(at("ours"), portal),
        "torch": OneFile(at("torch"), torch.save, torch.load),
        "safetensors": OneFile(at("safetensors"), save_file, lambda path: load_file(path)),
        "dcp": Dcp(at("dcp"), staged=False),
        "dcp_async": Dcp(at("dcp_async"), staged=True),
    }


class Floors:
    """The least that each part can take, of as many bytes as the state has, from one piece of memory."""

    def __init__(self, folder: Path, size: int) -> None:
        self.path, self.size = folder / "raw", size
        self.flat = torch.empty(size, dtype=torch.uint8).random_()
        self.again = torch.zeros_like(self.flat)

    def memcpy(self) -> None:
        """Into memory that was used before, by as many threads as torch takes."""
        self.again.copy_(self.flat)

    def write(self) -> None:
        """A new file, synced, in the place of the old."""
        rest, temporary = memoryview(self.flat.numpy()), self.path.with_name("temporary")
        with temporary.open("xb", buffering=0) as file:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def warm(self) -> None:
        """Let as much memory be free that the machine has at hand, and nothing be left to write."""
        os.sync()
        gc.collect()
        if hasattr(LIBC, "malloc_trim"):
            LIBC.malloc_trim(0)
        with mmap.mmap(-1, self.size, flags=PRIVATE) as memory:
            for start in range(0, self.size, mmap.PAGESIZE):
                memory[start] = 1

    def read(self) -> None:
        """Into fresh memory."""
        with (
            mmap.mmap(-1, self.size, flags=PRIVATE) as memory,
            self.path.open("rb", buffering=0) as file,
        ):
            rest = memoryview(memory)
            while rest:
                rest = rest[file.readinto(rest) :]
            rest.release()


def sync(path: Path) -> None:
    """A file or a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def timed(work: Callable[[], Any]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def touched(state: State) -> int:
    """Read a byte of every page: some only map their file."""
    return sum(
        int(tensor.flatten().view(torch.uint8)[::4096].sum())
        for tensor in state.values()
        if tensor.numel()
    )


def memory(what: str) -> float:
    """Bytes of memory of this process: `VmRSS` now, `VmHWM` at the most since `reset_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(what)) * 1024


def reset_peak() -> None:
    """Begin to look for the most anew."""
    Path("/proc/self/clear_refs").write_text("5")


def fsyncs(way: Way, state: State) -> int:
    """How often a save waits for the disk."""
    calls: list[Any] = []
    real = os.fsync
    os.fsync = lambda descriptor: (calls.append(descriptor), real(descriptor))[1]  # type: ignore[assignment,func-returns-value]
    try:
        way.save(10**6, state)
        way.finish()
    finally:
        os.fsync = real
    return len(calls)


def one(way: Way, step: int, state: State, floors: Floors, held: float) -> dict[str, float]:
    """A save and a restore. held: bytes that the way keeps between two saves."""
    floors.warm()
    found = {"memcpy": timed(floors.memcpy), "write": timed(floors.write)}
    floors.warm()
    reset_peak()
    before, cpu = memory("VmRSS"), time.process_time()
    found["stall"] = timed(lambda: way.save(step, state))
    found["durable"] = found["stall"] + timed(way.finish)
    found["save_cpu"] = time.process_time() - cpu
    found["save_memory"] = memory("VmHWM") - before + held
    floors.warm()
    found["read"] = timed(floors.read)
    floors.warm()
    return found | of_restore(way, state)


def of_restore(way: Way, state: State) -> dict[str, float]:
    """One sample of a restore, which must give the state."""
    reset_peak()
    before, cpu = memory("VmRSS"), time.process_time()
    started = time.perf_counter()
    restored = way.restore()
    touched(restored)
    found = {
        "restore": time.perf_counter() - started,
        "restore_cpu": time.process_time() - cpu,
        "restore_memory": memory("VmHWM") - before,
    }
    assert restored.keys() == state.keys()
    assert all(torch.equal(restored[name], value) for name, value in state.items())
    return found


def measure(size: str, rounds: int, folder: Path) -> dict[str, Any]:
    """By way: the samples of each figure, after a first save that is not counted."""
    state = (make_state if size == "large" else small_state)(*SIZES[size])
    total = sum(tensor.nbytes for tensor in state.values())
    floors = Floors(folder, total)
    samples: dict[str, list[dict[str, float]]] = {}
    with Portal() as portal:
        held: dict[str, float] = {}
        known = ways(folder, portal)
        for name, way in known.items():
            gc.collect()
            before = memory("VmRSS")
            one(way, 1, state, floors, 0.0)
            gc.collect()
            held[name] = max(0.0, memory("VmRSS") - before)
        for step in range(2, rounds + 2):
            for name, way in known.items():
                for tensor in state.values():
                    tensor.add_(1)
                samples.setdefault(name, []).append(one(way, step, state, floors, held[name]))
        syncs = {name: fsyncs(way, state) for name, way in known.items()}
    return {"bytes": total, "tensors": len(state), "samples": samples, "fsyncs": syncs}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with redirect_stdout(sys.stderr):
        answer = measure(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps(answer))
