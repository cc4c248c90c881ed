"""A store of many completed runs, and what the registry takes to answer about them.

`python -m benchmarks.many_runs` asks the registry of this CROWN_HOME; prints JSON: milliseconds.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from crown_exp.folder import (
    AttemptRecord,
    EndRecord,
    ResultRecord,
    RunPaths,
    RunRecord,
    encode,
    segment,
)

POINTS, METRICS = 20, ("loss", "accuracy", "rate", "val_loss", "val_accuracy")
KEYS = 20
ASKED = 15
MADE = datetime(2026, 11, 1, tzinfo=UTC)
RUN = RunRecord(
    id="", name="digits", experiment="digits", user="ada", created=MADE, task="experiments.train.main",
    signature="v1:0123456789ab", overrides=["optimizer.lr=0.003"], tags=[], seed=0, compute="local",
    sweep=None, lineage=None, code=None, bound=["model"],
)  # fmt: skip


def write_runs(store: Path, count: int) -> list[str]:
    """Folders of completed runs, as the composer and the runner leave them; their ids, the oldest first."""
    draw = random.Random(0)
    return [write_run(store, number, draw.random) for number in range(count)]


def write_run(store: Path, number: int, draw: Callable[[], float]) -> str:
    """One folder: 20 keys of a config, 5 metrics of 20 steps, a result."""
    run_id = f"r261101-{number:06d}"
    paths, made = RunPaths(run_id), MADE + timedelta(minutes=number)
    ended = made + timedelta(minutes=30)
    tags = ["paper"] if number % 10 == 0 else []
    config = "".join(f"key{key}: {draw()}\n" for key in range(KEYS - 3))
    config = f"seed: {number}\noptimizer:\n  lr: {draw()}\nmodel:\n  width: 16\n{config}"
    points = [
        segment.point(step, made.timestamp() + step, {name: draw() for name in METRICS})
        for step in range(1, POINTS + 1)
    ]
    attempt = AttemptRecord(
        run_id, 1, made, "box", 42, 7.5, "boot", None, {"device": "cpu"}, {"python": "3.11"}
    )
    files = {
        paths.record: encode(replace(RUN, id=run_id, created=made, tags=tags, seed=number)),
        paths.config: config.encode(),
        paths.attempt(1): encode(attempt),
        paths.segment(1, 1): segment.encode_header(run_id, 1, 1) + segment.encode_batch(points),
        paths.result: encode(ResultRecord(run_id, 1, POINTS, ended, {"accuracy": draw()})),
        paths.end(1): encode(EndRecord(run_id, 1, ended, 0, POINTS, "completed", None, None)),
    }
    for path, data in files.items():
        file = store / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return run_id


def main() -> None:
    """Ask some questions some times each, the first time uncounted."""
    from crown_exp.launch.index import open_index
    from crown_exp.registry import parse_filter

    with open_index() as index:
        registry = index.registry
        newest = index.call(registry.page).runs[0].id
        wanted = parse_filter("tag:paper optimizer.lr<0.5")

        async def show() -> Any:
            await registry.get(newest)
            await registry.curve(newest, "loss", at_most=160)

        async def best() -> Any:
            return await registry.page(
                wanted, sort="val_loss", columns=["optimizer.lr", "min(loss)"]
            )

        questions = {"page": registry.page, "best": best, "show": show}
        print(json.dumps({name: asked(index, ask) for name, ask in questions.items()}))


def asked(index: Any, question: Callable[[], Any]) -> float:
    """Median milliseconds of a question."""
    taken = []
    for _ in range(ASKED + 1):
        started = time.perf_counter()
        index.call(question)
        taken.append((time.perf_counter() - started) * 1e3)
    return median(taken[1:])


if __name__ == "__main__":
    main()
