"""At sample 500,000 of 1,000,000, in batches of 32, shuffled: what it costs to stand there again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.child import task_result
from benchmarks.measure import Figure, interleave, not_installed

if TYPE_CHECKING:
    from crown_exp import Run

SAMPLES, BATCH = 10**6, 32
POSITION = 500_000 // BATCH
WORKERS = (0, 2)
BAR = 0.05

PEERS = {
    "ours": ("run.batches", "crown_exp", WORKERS),
    "accelerate": ("accelerate's skip_first_batches", "accelerate", WORKERS),
    "torchdata": ("torchdata's StatefulDataLoader", "torchdata", WORKERS),
    "next": ("DataLoader, next() until there", "torch", (0,)),  # with workers it takes minutes
}


def measure(rounds: int, home: Path) -> list[Figure]:
    """CPU seconds of the main process until the batch there is in its hands, and on the clock."""
    task = ("++task._target_=benchmarks.position.time_all", f"++task.rounds={rounds}")
    taken = task_result(*task, "device.threads=1", "tracker=none", home=home)
    figures = []
    for name, (what, module, workers) in PEERS.items():
        if not find_spec(module):
            figures.append(not_installed(what))
            continue
        for count in workers:
            cpu, wall = zip(*taken[f"{name} {count}"], strict=True)
            title = f"{what}, {count} workers"
            figures.append(Figure(title, "s CPU", cpu, BAR if name == "ours" else None))
            figures.append(Figure(title, "s wall", wall))
    return figures


class Numbers:
    """A dataset that costs nothing."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> int:
        return index


def time_all(run: Run, *, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """The task: each way in turns."""
    ways = {"ours": ours(run), "accelerate": accelerate, "torchdata": torchdata(), "next": walk}
    cases: dict[str, Callable[[], tuple[float, float]]] = {
        f"{name} {count}": lambda name=name, count=count: cost(ways[name](count))  # type: ignore[misc]
        for name, (_, module, workers) in PEERS.items()
        if find_spec(module)
        for count in workers
    }
    return interleave(cases, rounds)


def cost(batches: Iterator[Any]) -> tuple[float, float]:
    """CPU seconds of this process, and seconds, until the first batch is there."""
    wall, cpu = time.perf_counter(), time.process_time()
    next(batches)
    taken = time.process_time() - cpu, time.perf_counter() - wall
    if hasattr(batches, "close"):
        batches.close()
    return taken


def ours(run: Run) -> Callable[[int], Iterator[Any]]:
    """As a resumed loop does it: the position is put back, and the loop goes on."""

    def batches(workers: int) -> Iterator[Any]:
        made = run.batches(Numbers(), batch_size=BATCH, workers=workers)
        made.load_state_dict(made.state_dict() | {"position": POSITION})
        with closing(iter(made)) as found:  # type: ignore[type-var]
            yield from found

    return batches


def loader(workers: int) -> Any:
    """torch's own, as it is used with a seed."""
    import torch
    from torch.utils.data import DataLoader

    generator = torch.Generator().manual_seed(0)
    data: Any = Numbers()
    return DataLoader(data, BATCH, shuffle=True, num_workers=workers, generator=generator)


def accelerate(workers: int) -> Iterator[Any]:
    """A loader whose sampler is told to leave out batches."""
    from accelerate import skip_first_batches

    yield from skip_first_batches(loader(workers), POSITION)


def torchdata() -> Callable[[int], Iterator[Any]]:
    """A loader that is given the state that it had there: found by walking there, once."""
    states: dict[int, Any] = {}

    def made(workers: int) -> Any:
        import torch
        from torchdata.stateful_dataloader import StatefulDataLoader

        generator = torch.Generator().manual_seed(0)
        data: Any = Numbers()
        return StatefulDataLoader(
            data, BATCH, shuffle=True, num_workers=workers, generator=generator,
            snapshot_every_n_steps=1000,
        )  # fmt: skip

    def batches(workers: int) -> Iterator[Any]:
        again = made(workers)
        again.load_state_dict(states[workers])
        yield from again

    def walked(workers: int) -> Iterator[Any]:
        if workers not in states:
            first = made(workers)
            for _ in islice(first, POSITION):
                pass
            states[workers] = first.state_dict()
        return batches(workers)

    return walked


def walk(workers: int) -> Iterator[Any]:
    """Every batch before is made and thrown away."""
    yield from islice(loader(workers), POSITION, None)
