"""`python -m benchmarks.sinks <sink> <folder>`: one way of logging, timed in a process of its own.

Prints JSON: microseconds a call of three floats, by what was measured.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.mlp import numbers, stepper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crown_exp import Run

Log = Callable[[int, float, float, float], Any]
"""Log a step's loss, accuracy and rate."""

STEPS, BLOCKS = 6000, 3
"""Steps in a block of training, which takes many times as long as a log's thread waits; blocks with a log."""
WARM = 500
SECONDS = 1.0
SETTLED, STARTED = 1.0, 8.0
"""Seconds after which what was logged is written; and after which a run is in the index, W&B is up."""


class Sink(NamedTuple):
    """open: a log in a folder, closed at the end. steps: how many training steps are tried with it."""

    what: str
    module: str
    open: Callable[[Path], AbstractContextManager[Log]]
    steps: int = STEPS


class Ours(NamedTuple):
    """`run.log`, with the overrides that choose its trackers."""

    what: str
    overrides: tuple[str, ...]


# --- the sinks ----------------------------------------------------------------------------------------


@contextmanager
def csv_file(folder: Path) -> Iterator[Log]:
    """The standard library's writer, buffered."""
    with (folder / "log.csv").open("w") as file:
        row = csv.writer(file).writerow
        yield lambda step, loss, accuracy, rate: row((step, loss, accuracy, rate))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def tensorboard(folder: Path) -> Iterator[Log]:
    """One call a value, as its tutorials have it."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:  # type: ignore[no-untyped-call]

        def log(step: int, loss: float, accuracy: float, rate: float) -> None:
            writer.add_scalar("loss", loss, step)
            writer.add_scalar("accuracy", accuracy, step)
            writer.add_scalar("rate", rate, step)

        yield log


@contextmanager
def wandb(folder: Path) -> Iterator[Log]:
    """Offline, without what it records of the machine."""
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    import wandb

    lean = {"console": "off", "silent": True, "x_disable_stats": True, "x_disable_meta": True}
    run = wandb.init(
        mode="offline", dir=str(folder), project="bench", settings=wandb.Settings(**lean)
    )
    yield lambda step, loss, accuracy, rate: run.log(
        {"loss": loss, "accuracy": accuracy, "rate": rate}, step=step
    )
    run.finish()


@contextmanager
def mlflow(folder: Path) -> Iterator[Log]:
    """Its SQLite store, one call a step."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    with mlflow.start_run():
        yield lambda step, loss, accuracy, rate: mlflow.log_metrics(
            {"loss": loss, "accuracy": accuracy, "rate": rate}, step=step
        )


@contextmanager
def trackio(folder: Path) -> Iterator[Log]:
    """Into its SQLite file."""
    os.environ |= {"TRACKIO_DIR": str(folder), "HF_HUB_OFFLINE": "1"}
    import trackio

    trackio.init(project="bench", embed=False)
    yield lambda step, loss, accuracy, rate: trackio.log(
        {"loss": loss, "accuracy": accuracy, "rate": rate}, step=step
    )
    trackio.finish()


SINKS = {
    "csv": Sink("csv.writer", "csv", csv_file),
    "tensorboard": Sink("TensorBoard, add_scalar × 3", "tensorboard", tensorboard),
    "wandb": Sink("W&B offline", "wandb", wandb),
    "trackio": Sink("trackio", "trackio", trackio),
    "mlflow": Sink("mlflow, SQLite", "mlflow", mlflow, steps=100),
}
OURS = {
    "ours": Ours("run.log", ("tracker=none",)),
    "ours+wandb": Ours("run.log, W&B offline behind it", ("tracker=wandb", "tracker.mode=offline")),
}


# --- how they are timed -------------------------------------------------------------------------------


class Times(NamedTuple):
    """Microseconds a turn: on the clock, of CPU in the calling thread, of CPU in the whole process."""

    wall: float
    thread: float
    process: float

    def over(self, other: Times) -> Times:
        """What this takes more than another."""
        return Times(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


def main(name: str, folder: str) -> None:
    """Time one of them; what it prints goes to stderr."""
    with redirect_stdout(sys.stderr):
        times = of_ours(name) if name in OURS else of_a_sink(SINKS[name], Path(folder))
    print(json.dumps(times))


def of_a_sink(sink: Sink, folder: Path) -> dict[str, Times]:
    """Times of a sink that somebody else made."""
    folder.mkdir(parents=True, exist_ok=True)
    with sink.open(folder) as log:
        log(0, 1.0, 1.0, 1.0)  # what the first call sets up is not of interest
        return timed(log, sink.steps)


def of_ours(name: str) -> Any:
    """Times of `run.log` in a real run."""
    import crown_exp

    task = "++task._target_=benchmarks.sinks.in_run"
    return crown_exp.start(task, *OURS[name].overrides).result


def in_run(run: Run) -> dict[str, Times]:
    """The task."""

    def log(step: int, loss: float, accuracy: float, rate: float) -> None:
        run.log(loss=loss, accuracy=accuracy, rate=rate)

    time.sleep(STARTED)
    return timed(log, STEPS)


def timed(log: Log, steps: int) -> dict[str, Times]:
    """Of a call after each step of a training, and in an empty loop that goes on for a second."""
    step = stepper()
    after_steps(step, log, min(steps, WARM))
    trained = []
    for _ in range(BLOCKS):
        time.sleep(SETTLED)
        bare = after_steps(step, nothing, STEPS)
        trained.append(after_steps(step, log, steps).over(bare))
    time.sleep(SETTLED)
    empty = for_a_second(nothing)
    return {"trained": middle(trained), "empty": for_a_second(log).over(empty)}


def middle(taken: Sequence[Times]) -> Times:
    """The median of each clock."""
    return Times(*map(median, zip(*taken, strict=True)))


def nothing(step: int, loss: float, accuracy: float, rate: float) -> None:
    """No log."""


def for_a_second(log: Log) -> Times:
    """A loop that does nothing else."""
    values = cycle(numbers(1000))
    done, before = 0, now()
    while time.perf_counter() < before.wall + SECONDS:
        for number in range(done, done + 10):
            log(number, *next(values))
        done += 10
    return each(before, done)


def after_steps(step: Callable[[], Any], log: Log, steps: int) -> Times:
    """A loop that trains."""
    values, before = cycle(numbers(1000)), now()
    for number in range(1, steps + 1):
        step()
        log(number, *next(values))
    return each(before, steps)


def now() -> Times:
    """The clocks."""
    return Times(time.perf_counter(), time.thread_time(), time.process_time())


def each(before: Times, turns: int) -> Times:
    """Microseconds a turn since then."""
    return Times(*(value / turns * 1e6 for value in now().over(before)))


if __name__ == "__main__":
    main(*sys.argv[1:])
