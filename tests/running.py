"""Runs for tests: a function becomes a task, and its run is seen through in this process.

    ended = lab.run(task, {"task": {"lr": 0.1}})

The store is a folder, the composed config the schema's defaults; Hydra has no part in it.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from crown_exp.config.schema import defaults
from crown_exp.folder import Facts, RunPaths, RunRecord, decode_segment, state
from crown_exp.runner import Ending, run_attempt
from crown_exp.storage import BlobStore, Portal
from crown_exp.storage.runs import read_facts, write_run

TASKS = "tasks_of_these_tests"


def merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with the values of another laid over it."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = (
            merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return result


@dataclass
class Ended:
    """A run that was seen through: its ending, what was printed, its records and its logged points."""

    id: str
    ending: Ending
    said: str
    facts: Facts
    segments: list[bytes]

    @property
    def code(self) -> int:
        return self.ending.exit_code

    @property
    def state(self) -> str:
        return str(state(self.facts, datetime.now(UTC)))

    @property
    def points(self) -> list[tuple[int, dict[str, float]]]:
        """(step, values) of everything that was logged, in order."""
        return [(record[1], record[3]) for record in self.records if record[0] == "m"]

    @property
    def records(self) -> list[Any]:
        return [
            record
            for data in self.segments
            for batch in decode_segment(data).batches
            for record in batch
        ]


@dataclass
class Lab:
    """Makes runs in one store."""

    portal: Portal
    blobs: BlobStore
    home: Path
    made: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def make(
        self,
        task: Callable[..., Any] | str,
        config: Mapping[str, Any] = {},
        bound: tuple[str, ...] = (),
    ) -> str:
        """Record a run of a task; its id."""
        self.made += 1
        target = task if isinstance(task, str) else published(task)
        tree = merged(defaults(), merged({"task": {"_target_": target}}, config))
        record = RunRecord(
            id=f"r261124-{self.made:06}", name="test", experiment=None, user="me",
            created=datetime.now(UTC), task=target, signature="v1:0", overrides=["task=x"], tags=[],
            seed=tree["seed"], compute="local", sweep=None, lineage=None, code=None, bound=list(bound),
        )  # fmt: skip
        self.portal.call(write_run, self.blobs, record, yaml.safe_dump(tree).encode())
        return record.id

    def attempt(self, run: str, **options: Any) -> Ended:
        """See one attempt of a recorded run through."""
        stream = options.pop("stream", None) or io.StringIO()
        given = {"home": self.home, "root": self.home, "stream": stream} | self.options | options
        ending = run_attempt(self.portal, self.blobs, run, **given)
        said = stream.getvalue() if isinstance(stream, io.StringIO) else ""
        return Ended(run, ending, said, self.facts(run), self.segments(run))

    def run(
        self,
        task: Callable[..., Any] | str,
        config: Mapping[str, Any] = {},
        bound: tuple[str, ...] = (),
        **options: Any,
    ) -> Ended:
        """Record a run and see it through."""
        return self.attempt(self.make(task, config, bound), **options)

    def facts(self, run: str) -> Facts:
        return self.portal.call(read_facts, self.blobs, run)

    def segments(self, run: str) -> list[bytes]:
        entries = self.portal.call(self.blobs.list, RunPaths(run).log)
        return [self.portal.call(self.blobs.get, entry.path) for entry in entries]


def published(task: Callable[..., Any]) -> str:
    """A target under which a function, even one inside a test, is found."""
    module = sys.modules.setdefault(TASKS, ModuleType(TASKS))
    module.task = task  # type: ignore[attr-defined]
    return f"{TASKS}.task"
