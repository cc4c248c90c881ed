"""A run in a bucket, killed, and resumed from places that know nothing of each other.

What it came to is read from a copy of the bucket that a stranger's client makes, and held against the run
that nobody touched, whose store was a folder.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.folder import RunPaths
from crown_exp.storage import Portal, open_blobs
from tests.exactness.cases import SAVING, Cases, Straight
from tests.exactness.kills import AT_ONCE, Tally
from tests.exactness.runs import Outcome, Recorded, leaves_of, outcome_of
from tests.exactness.zygote import RUNNER, TORCH, Child, Zygote
from tests.running import Project
from tests.s3.buckets import Bucket

SMALL = "fitting"
PRELOADED = {
    SMALL: (*RUNNER, "obstore", "obstore.store", "botocore.session"),
    "everything": (*TORCH, "obstore", "obstore.store", "botocore.session"),
}
"""What a zygote imports for a run in a bucket. Imported, obstore has no threads yet."""

RESUMABLE = (-signal.SIGKILL, 80)
"""What an attempt may end with before the last: a kill, or a store that it could not reach."""


@dataclass(frozen=True)
class Remote:
    """A run below a prefix of a bucket. place: for homes, and what is said. deadline: of a call, in seconds."""

    id: str
    root: Path
    bucket: Bucket
    prefix: str
    place: Path
    deadline: float = 6.0

    @classmethod
    def of(cls, recorded: Recorded, bucket: Bucket, prefix: str, place: Path) -> Remote:
        """A copy of a recorded run that is not begun."""
        for path in sorted(recorded.folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(recorded.store).as_posix()
                bucket.write(f"{prefix}/{name}", path.read_bytes())
        place.mkdir(parents=True)
        return cls(recorded.id, recorded.root, bucket, prefix, place)

    def start(self, zygote: Zygote, number: int, home: str) -> Child:
        """Attempt `number`, as an executor starts it at first, as a person resumes it then.

        home: what the machine is called that it runs on.
        """
        command = ("run" if number == 0 else "resume", self.id)
        out = self.place / "said" / f"{number:03}.txt"
        environment = self.bucket.environment(self.prefix) | {
            "CROWN_HOME": str(self.place / home),
            "CROWN_STORAGE__DEADLINE": f"{self.deadline:g}",
        }
        return zygote.start(*command, cwd=self.root, out=out, environment=environment)

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is one that it can go on from."""
        return any(
            key.endswith(".json")
            for key in self.bucket.keys(f"{self.prefix}/runs/{self.id}/checkpoints/")
        )

    def fetched(self) -> Recorded:
        """All that is in the bucket, as files."""
        store = self.place / "fetched"
        for key in self.bucket.keys(f"{self.prefix}/runs/"):
            path = store / key.removeprefix(f"{self.prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.bucket.read(key))
        return Recorded(self.id, store, self.root)

    def said(self) -> str:
        """What all its processes printed."""
        files = sorted((self.place / "said").glob("*"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in files)


def outcome(run: Recorded) -> Outcome:
    """What a run came to, with the state of its newest checkpoint, every byte of which is verified."""
    with Portal() as portal:
        blobs = open_blobs(run.store.as_uri())
        restored = Checkpoints(portal, blobs, RunPaths(run.id), 999_999).restore()
        assert restored is not None and not restored.damaged, restored
        leaves = dict(leaves_of({"step": restored.step, "state": restored.state}))
    return replace(outcome_of(run), leaves=leaves)


def straight_small(cases: Cases) -> Straight:
    """The small run that nobody touched, in a folder."""
    root = cases.place / "numpy"
    if not root.exists():
        root.mkdir(parents=True)
        Project.write(root, Path(__file__).with_name("numpy_task.py").read_text())
    recorded = Recorded.make(root, cases.place / "small" / "store", f"task={SMALL}", SAVING)
    run = recorded.copied(cases.place / "small" / "run")
    with Zygote.preloaded(PRELOADED[SMALL]) as zygote:
        assert run.begin(zygote).wait() == 0, run.said()
    return Straight(SMALL, recorded, outcome(run), 0.0)


def straight_large(cases: Cases) -> Straight:
    """The run with torch that nobody touched, and with all in it that a checkpoint can hold."""
    found = cases.straight("everything")
    again = found.recorded.copied(cases.place / "large")
    assert again.begin(cases.zygotes.of("everything")).wait() == 0, again.said()
    return replace(found, outcome=outcome(again))


@dataclass
class Soak:
    """Copies of a run in a bucket, killed at random moments.

    Half of the attempts run on a machine of their own, with an empty home. faults: called before each.
    """

    straight: Straight
    bucket: Bucket
    zygote: Zygote
    place: Path
    seed: int
    faults: Callable[[], object] = lambda: None

    def kill(self, kills: int) -> Tally:
        """So often in all. Every copy ends in the end, and is compared."""
        tally, chance = (
            Tally(self.straight.name),
            random.Random(f"{self.straight.name} {self.seed}"),
        )
        longest = self.see_through(f"{self.seed}-whole")
        while tally.kills < kills and not tally.first:
            run = self.copy(f"{self.seed}-{tally.runs}")
            self.until_it_ends(run, chance, min(AT_ONCE, kills - tally.kills), longest, tally)
            compare(tally, run, self.straight)
        return tally

    def copy(self, name: str) -> Remote:
        """The run, not begun, below another prefix."""
        return Remote.of(self.straight.recorded, self.bucket, name, self.place / name)

    def see_through(self, name: str) -> float:
        """Run a copy without a kill; the seconds that it takes, of which the moments of kills are drawn."""
        began = time.monotonic()
        run = replace(self.copy(name), deadline=60.0)  # only the machine can be slow here
        assert run.start(self.zygote, 0, "home").wait() == 0, run.said()
        return time.monotonic() - began

    def until_it_ends(
        self, run: Remote, chance: random.Random, kills: int, longest: float, tally: Tally
    ) -> None:
        """Start it again and again, kill it at most so often."""
        killed = number = 0
        while True:
            tally.from_saved += run.has_checkpoint
            self.faults()
            home = f"machine-{number}" if chance.random() < 0.5 else "machine"
            child = run.start(self.zygote, number, home)
            tally.resumes += number > 0
            number += 1
            code = child.wait(chance.uniform(0, longest)) if killed < kills else child.wait()
            if killed == kills - 1 and not tally.from_saved:  # however slow the machine has become
                while code is None and not run.has_checkpoint:
                    code = child.wait(0.05)
            if code is None:
                assert killed < kills, f"an attempt did not end\n{run.said()}"
                child.send(signal.SIGKILL)
                code = child.wait()
            if code == 0:
                return
            assert code in RESUMABLE and number < 5 * AT_ONCE, f"exit code {code}\n{run.said()}"
            if code == -signal.SIGKILL:
                killed += 1
                tally.kills += 1


def compare(tally: Tally, run: Remote, straight: Straight) -> None:
    """Hold a run that has ended against the one that nobody touched."""
    kept = run.fetched()
    assert kept.has_checkpoint, f"{run.place.name} ended, and no checkpoint is left\n{run.said()}"
    found = outcome(kept)
    tally.runs += 1
    tally.differing_bits += straight.outcome.differing_bits(found)
    if not tally.first and (how := straight.outcome.difference(found)):
        tally.first = f"{tally.name}, {run.place.name}: {how}\n{run.said()}"
