"""`python -m benchmarks.durable <way> <folder>`: points of one metric, until all of them are in files.

Prints JSON: points a second.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from crown_exp.storage import BlobStore

POINTS = 200_000
RUN = "r261122-k7f3q2"


class Way(NamedTuple):
    """Writes `points` (step, value) into a folder; returns the points a second, by what was reached."""

    what: tuple[str, ...]
    module: str
    write: Callable[[Path, list[tuple[int, float]]], dict[str, float]]
    points: int
    at_least: float | None = None


def ours(folder: Path, points: list[tuple[int, float]]) -> dict[str, float]:
    """The run's log as a run has it, then its folder into the registry."""
    from crown_exp.folder import RunPaths
    from crown_exp.registry import ingest_run, open_registry
    from crown_exp.storage import Portal, open_blobs
    from crown_exp.storage.database import database_url
    from crown_exp.tracking.run_log import RunLog

    blobs = open_blobs(str(folder))
    with (
        Portal() as portal,
        portal.enter(open_registry(database_url(folder / "registry.db"))) as registry,
    ):
        portal.call(recorded, blobs)
        path = blobs.local_path(RunPaths(RUN).segment(1, 1))
        assert path is not None
        started = time.perf_counter()
        log = RunLog(path, RUN, 1)
        for step, value in points:
            log.put(step, {"loss": value})
        log.close()
        written = time.perf_counter()
        told = portal.call(ingest_run, registry, blobs, RUN)
        ended = time.perf_counter()
        assert (told.records, told.problems) == (len(points), ())
        first, second = WAYS["ours"].what
        return {
            first: len(points) / (written - started),
            second: len(points) / (ended - started),
        }


async def recorded(blobs: BlobStore) -> None:
    """A run's folder, before its log."""
    from tests.unit.registry.folders import make_run

    await (await make_run(blobs, RUN)).attempt()


def csv_file(folder: Path, points: list[tuple[int, float]]) -> dict[str, float]:
    """The standard library's writer, one fsync at the end."""

    def write() -> None:
        with (folder / "log.csv").open("w") as file:
            row = csv.writer(file).writerow
            for point in points:
                row(point)
            file.flush()
            os.fsync(file.fileno())

    return {WAYS["csv"].what[0]: rate(write, points)}


def tensorboard(folder: Path, points: list[tuple[int, float]]) -> dict[str, float]:
    """One call a point."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))  # type: ignore[no-untyped-call]

    def write() -> None:
        for step, value in points:
            writer.add_scalar("loss", value, step)
        writer.close()

    return {WAYS["tensorboard"].what[0]: rate(write, points)}


def wandb(folder: Path, points: list[tuple[int, float]]) -> dict[str, float]:
    """Offline."""
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    import wandb

    lean = {"console": "off", "silent": True, "x_disable_stats": True, "x_disable_meta": True}
    settings = wandb.Settings(**lean)
    run = wandb.init(mode="offline", dir=str(folder), project="bench", settings=settings)

    def write() -> None:
        for step, value in points:
            run.log({"loss": value}, step=step)
        run.finish()

    return {WAYS["wandb"].what[0]: rate(write, points)}


def trackio(folder: Path, points: list[tuple[int, float]]) -> dict[str, float]:
    """Its SQLite file."""
    os.environ |= {"TRACKIO_DIR": str(folder), "HF_HUB_OFFLINE": "1"}
    import trackio

    trackio.init(project="bench", embed=False)

    def write() -> None:
        for step, value in points:
            trackio.log({"loss": value}, step=step)
        trackio.finish()

    return {WAYS["trackio"].what[0]: rate(write, points)}


def mlflow(folder: Path, points: list[tuple[int, float]]) -> dict[str, float]:
    """Its SQLite store; a thousand in a call, the most it takes, is its fastest."""
    import mlflow
    from mlflow.entities import Metric

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    client = mlflow.MlflowClient()
    run_id = mlflow.start_run().info.run_id

    def write() -> None:
        for start in range(0, len(points), 1000):
            now = int(time.time() * 1000)
            some = [
                Metric("loss", value, now, step) for step, value in points[start : start + 1000]
            ]
            client.log_batch(run_id, metrics=some)

    return {WAYS["mlflow"].what[0]: rate(write, points)}


WAYS = {
    "ours": Way(
        ("run.log, in the fsynced segment", "run.log, and in the registry"), "crown_exp", ours,
        POINTS, 100.0,
    ),
    "csv": Way(("csv.writer, fsynced at the end",), "csv", csv_file, POINTS),
    "tensorboard": Way(("TensorBoard, until closed",), "tensorboard", tensorboard, 20_000),
    "wandb": Way(("W&B offline, until finished",), "wandb", wandb, 10_000),
    "trackio": Way(("trackio, until finished",), "trackio", trackio, 10_000),
    "mlflow": Way(("mlflow SQLite, log_batch of 1,000",), "mlflow", mlflow, 5_000),
}  # fmt: skip


def rate(write: Callable[[], Any], points: list[tuple[int, float]]) -> float:
    """Points a second."""
    started = time.perf_counter()
    write()
    return len(points) / (time.perf_counter() - started)


def main(name: str, folder: str) -> None:
    """Time one of them; what it prints goes to stderr."""
    from benchmarks.mlp import numbers

    way = WAYS[name]
    Path(folder).mkdir(parents=True)
    points = [(step, loss) for step, (loss, _, _) in enumerate(numbers(way.points), 1)]
    with redirect_stdout(sys.stderr):
        rates = way.write(Path(folder), points)
    print(json.dumps(rates))


if __name__ == "__main__":
    main(*sys.argv[1:])
