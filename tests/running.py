"""Runs for tests.

In this process, a function becomes a task, the composed config is the schema's defaults:

    ended = lab.run(task, {"task": {"lr": 0.1}})

In a process of its own, a project is written and a command typed in it:

    project = Project.write(tmp_path, "def train(run): ...")
    done = project.crown("task=train")
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import yaml

from crown_exp.config.schema import defaults
from crown_exp.folder import Facts, RunPaths, RunRecord, decode_segment, state
from crown_exp.runner import Ending, run_attempt
from crown_exp.storage import BlobStore, Portal
from crown_exp.storage.runs import read_facts, write_run
from tests.exactness.zygote import Zygote
from tests.started import noted

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


@dataclass
class Project:
    """A user's project on disk: tasks.py with its functions, a yaml for each, a store in its .crown.

    zygote: what forks the commands that are seen through, where many would import torch.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    zygote: Zygote | None = None

    @classmethod
    def write(cls, root: Path, tasks: str, **keys: str) -> Project:
        """tasks: the text of tasks.py. keys: what is below `_target_` in the yaml of a function's task."""
        functions = re.findall(r"^def (\w+)\(run\b", tasks, re.MULTILINE)
        (root / "conf/task").mkdir(parents=True)
        (root / "pyproject.toml").write_text("[tool.crown_exp]\n")
        (root / "tasks.py").write_text(tasks)
        for name in functions:
            text = f"_target_: tasks.{name}\n{keys.get(name, '')}\n"
            (root / f"conf/task/{name}.yaml").write_text(text)
        return cls(root)

    def around(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment of a command: the checkout's package, wherever it is installed from, and more."""
        path = {"PYTHONPATH": str(Path(__file__).parents[1])}
        return dict(os.environ) | path | self.environment | dict(env)

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """`python -m crown_exp …`, started."""
        return noted(subprocess.Popen(
            [sys.executable, "-m", "crown_exp", *arguments], cwd=self.root, text=True,
            env=self.around(options.pop("env", {})),
            **({"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL} | options),
        ))  # fmt: skip

    def crown(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`python -m crown_exp …`, seen through."""
        if self.zygote and not options.keys() - {"env"}:
            return self.forked(self.zygote, arguments, options.get("env", {}))
        child = self.popen(*arguments, **options)
        said, _ = child.communicate(timeout=240)
        return subprocess.CompletedProcess(arguments, child.returncode, said)

    def forked(
        self, zygote: Zygote, arguments: tuple[str, ...], env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """The same, by a process that has imported what takes long."""
        with tempfile.TemporaryDirectory() as folder:
            out, environment = Path(folder, "said"), self.around(env)
            child = zygote.start(*arguments, cwd=self.root, out=out, environment=environment)
            code = child.wait()
            assert code is not None
            return subprocess.CompletedProcess(arguments, code, child.said)

    @property
    def runs(self) -> list[Path]:
        """The folders of its runs, the oldest first."""
        made = [path.parent for path in (self.root / ".crown/store/runs").glob("*/run.json")]
        return sorted(made, key=lambda path: json.loads((path / "run.json").read_text())["created"])

    def tree(self) -> set[str]:
        """Every file of the project outside .crown and Python's caches."""
        files = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        return {
            str(path) for path in files if not {".crown", "__pycache__"}.intersection(path.parts)
        }


class Heard:
    """What a process says, read while it is said: words can be waited for, and none are lost by that."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        self.child, self.said, self.over = child, "", False
        self.changed = threading.Condition()
        # Of its own: that of the process can be closed while it is read.
        stream = os.fdopen(os.dup(child.stdout.fileno()))
        self.reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self.reader.start()

    def _read(self, stream: TextIO) -> None:
        with stream:
            for line in stream:
                with self.changed:
                    self.said += line
                    self.changed.notify_all()
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def until(self, words: str, seconds: float = 120.0) -> None:
        """Wait until these words were said."""
        with self.changed:
            self.changed.wait_for(lambda: words in self.said or self.over, seconds)
            assert words in self.said, f"it did not say {words!r}: {self.said}"

    def rest(self, seconds: float = 120.0) -> str:
        """Wait for the end; all that was said, from the beginning."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.over, seconds), f"no end: {self.said}"
        self.child.wait(timeout=seconds)
        assert self.child.stdout is not None
        self.child.stdout.close()
        return self.said


def ends(run: Path) -> list[int]:
    """The exit codes of a run's attempts; -1 for one without an end."""
    attempts = [path for path in (run / "attempts").glob("*.json") if ".end" not in path.name]
    records = [path.with_name(f"{path.stem}.end.json") for path in sorted(attempts)]
    return [json.loads(path.read_text())["exit_code"] if path.exists() else -1 for path in records]
