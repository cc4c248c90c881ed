"""What is killed: the four experiments, small, and tasks that hold all a checkpoint can hold."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.exactness.runs import Outcome, Recorded, outcome_of
from tests.exactness.zygote import EXAMPLES, ROOT, RUNNER, TORCH, Zygote
from tests.running import Project

SAVING = "checkpoint.every='3 steps'"

EXPERIMENTS: Mapping[str, Sequence[str]] = {
    "digits_cnn": ("task.steps=200", "task.batch_size=32", "model.width=4"),
    "tiny_gpt": (
        *("task.steps=100", "task.evaluate_every='10 steps'", "task.sample_length=8"),
        *("model.width=16", "model.depth=1", "model.heads=2", "model.context=16", "model.dropout=0.1"),
    ),
    "ppo_cartpole": (
        *("task.steps=60", "task.actors=4", "task.horizon=16", "task.epochs=2", "task.minibatches=2"),
    ),
    "tokenize_corpus": ("task.shards=6", "task.vocabulary=300", "task.pattern='[a-b]*.py'"),
}  # fmt: skip

TASKS: Mapping[str, Sequence[str]] = {
    "everything": ("device.accumulate=2",),
    "streams": (),
}

LONGER: Mapping[str, Sequence[str]] = {
    "everything": ("task.turns=60",),
    "streams": ("task.turns=120",),
}
"""For kills at random, so that most of them meet the loop and not what is before and after it."""

CASES = (*EXPERIMENTS, *TASKS)


def preloaded(name: str) -> tuple[str, ...]:
    """What a zygote imports for a case. The pipeline comes without torch."""
    if name == "tokenize_corpus":
        return RUNNER
    return EXAMPLES if name in EXPERIMENTS else TORCH


@dataclass
class Zygotes:
    """Zygotes by what they have imported and by their hash seed, started when first asked for.

    pairs: two of each kind, with two hash seeds; else one.
    """

    pairs: bool = True
    started: dict[tuple[tuple[str, ...], int], Zygote] = field(default_factory=dict)

    def of(self, name: str, number: int = 0) -> Zygote:
        """For attempt `number` of a case: two take turns, if there are pairs."""
        key = preloaded(name), number % 2 if self.pairs else 0
        if key not in self.started:
            self.started[key] = Zygote.preloaded(key[0], hash_seed=1 + key[1])
        return self.started[key]

    def close(self) -> None:
        """End them all."""
        for zygote in self.started.values():
            zygote.close()


@dataclass
class Straight:
    """A run that nobody touched: as it was recorded, what it came to, and how long it took."""

    name: str
    recorded: Recorded
    outcome: Outcome
    seconds: float


@dataclass
class Cases:
    """Straight runs by their names, made when first asked for, below a folder of their own."""

    place: Path
    zygotes: Zygotes
    made: dict[tuple[str, ...], Straight] = field(default_factory=dict)

    def straight(self, name: str, *overrides: str) -> Straight:
        """The straight run of a case, with other keys perhaps."""
        key = (name, *overrides)
        if key not in self.made:
            self.made[key] = self.run(name, self.place / f"straight{len(self.made)}", overrides)
        return self.made[key]

    def long(self, name: str) -> Straight:
        """The straight run of a case that is killed at random."""
        return self.straight(name, *LONGER.get(name, ()))

    def run(self, name: str, place: Path, overrides: Sequence[str]) -> Straight:
        """Record it, copy it, see the copy through."""
        if name in EXPERIMENTS:
            root, chosen = ROOT, (f"+experiment={name}", *EXPERIMENTS[name])
        else:
            root, chosen = self.project, (f"task={name}", *TASKS[name])
        recorded = Recorded.make(root, place / "recorded" / "store", *chosen, SAVING, *overrides)
        run, zygote = recorded.copied(place / "run"), self.zygotes.of(name)
        zygote.start("--version", cwd=root, out=place / "version.txt").wait()  # it has imported all
        began = time.monotonic()
        code = run.begin(zygote).wait()
        seconds = time.monotonic() - began
        assert code == 0, run.said()
        return Straight(name, recorded, outcome_of(run), seconds)

    @property
    def project(self) -> Path:
        """A user's project with the tasks of tests/exactness/tasks.py."""
        root = self.place / "project"
        if not root.exists():
            root.mkdir(parents=True)
            Project.write(root, Path(__file__).with_name("tasks.py").read_text())
        return root
