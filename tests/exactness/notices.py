"""A spot machine is taken: notice from its metadata server at a random moment, SIGKILL 30 seconds later.

The run's store is a bucket. What is left of a run is read by a stranger's client, and every byte of its newest
checkpoint is verified.
"""

from __future__ import annotations

import json
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import local
from typing import Any

from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.folder import RunPaths
from crown_exp.storage import Portal, open_blobs
from tests.exactness.runs import Recorded
from tests.exactness.zygote import RUNNER, TORCH, Child, Zygote
from tests.metadata_server import MetadataServer
from tests.running import Project
from tests.s3.buckets import Bucket

GRACE = 30.0
TICK = 0.1
CLOUDS = ("aws", "gcp", "azure")
PRELOADED = {
    "walk": (*RUNNER, "obstore", "obstore.store"),
    "fit": (*TORCH, "obstore", "obstore.store"),
}
SAVED = re.compile(
    r"(notice \d+ s(?:, trained on for \d+ s)?|asked to stop \(SIGTERM\)), saved in (\d+\.\d) s"
    r"(?:, [\d.]+ s after its time)?, steps lost 0"
)
"""As a run tells its end. By its clock it may be late where its machine stood still: see `wait_awake`."""

KINDS = ("saved", "nothing yet", "not begun", "completed", "LOST")
"""How a run may end: in a verified checkpoint of its last step; before its first turn; before its attempt could
handle a signal; by itself, in its grace. All else is lost."""


@dataclass(frozen=True)
class Verdict:
    """What became of one run.

    seconds: from the notice to the end of the process. saving: as the run tells it. words: why, of a lost one.
    sigterm: whether SIGTERM came after the notice, as the clouds send it.
    """

    kind: str
    seconds: float = 0.0
    saving: float = 0.0
    sigterm: bool = False
    words: str = ""


@dataclass
class Machines:
    """Where runs of one task are begun and taken. seconds: how long one lasts that nobody touches."""

    task: str
    bucket: Bucket
    place: Path
    recorded: Recorded
    seconds: float = 0.0
    numbers: Iterator[int] = field(default_factory=count)
    own: local = field(default_factory=local)
    zygotes: list[Zygote] = field(default_factory=list)

    @property
    def zygote(self) -> Zygote:
        """This thread's."""
        if not hasattr(self.own, "zygote"):
            self.own.zygote = Zygote.preloaded(PRELOADED[self.task])
            self.zygotes.append(self.own.zygote)
        return self.own.zygote  # type: ignore[no-any-return]

    def fresh(self) -> str:
        """The prefix of a store that holds the run as it was recorded."""
        prefix = f"{self.task}-{next(self.numbers)}"
        for path in sorted(self.recorded.folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(self.recorded.store).as_posix()
                self.bucket.write(f"{prefix}/{name}", path.read_bytes())
        return prefix

    def begin(self, prefix: str, server: MetadataServer, cloud: str) -> Any:
        """The run, as an executor starts it."""
        environment = (
            self.bucket.environment(prefix)
            | server.environment(cloud)
            | {"CROWN_HOME": str(self.place / prefix / "home")}
        )
        folder = f"{self.bucket.url}/{prefix}/runs/{self.recorded.id}"
        out = self.place / prefix / "said.txt"
        return self.zygote.start(
            "run", folder, cwd=self.recorded.root, out=out, environment=environment
        )

    def fetched(self, prefix: str) -> Recorded:
        """All that is in the bucket, as files."""
        store = self.place / prefix / "fetched"
        for key in self.bucket.keys(f"{prefix}/runs/"):
            path = store / key.removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.bucket.read(key))
        return Recorded(self.recorded.id, store, self.recorded.root)

    def untouched(self) -> float:
        """See a run through in peace; its seconds."""
        with MetadataServer() as server:
            prefix = self.fresh()
            child = self.begin(prefix, server, "aws")
            began = time.monotonic()
            assert child.wait() == 0, child.said
            assert server.asked.total() > 2, server.asked
            return time.monotonic() - began

    def taken(self, cloud: str, chance: random.Random) -> Verdict | None:
        """A run whose machine is taken at a random moment; None if it had ended before."""
        prefix = self.fresh()
        with MetadataServer() as server:
            begun, child = time.monotonic(), self.begin(prefix, server, cloud)
            if child.wait(chance.uniform(0, self.seconds)) is not None:
                self.seconds = min(self.seconds, time.monotonic() - begun)
                return None
            server.give_notice(cloud, seconds=GRACE)
            given, left = time.monotonic(), GRACE
            code, sigterm = None, False
            if chance.random() < 0.5:
                before = chance.uniform(0, 2)
                code, left = wait_awake(child, before), GRACE - before
                sigterm = code is None
            if sigterm:
                child.send(signal.SIGTERM)
            if code is None:
                code = wait_awake(child, left)
            if code is None:
                child.send(signal.SIGKILL)
                code = child.wait()
            seconds = time.monotonic() - given
        kind, saving, words = judged(self.fetched(prefix), code)
        said = f"{words}\n{child.said}" if kind == "LOST" else ""
        return Verdict(kind, seconds, saving, sigterm, said)


def wait_awake(child: Child, seconds: float) -> int | None:
    """As `child.wait`; but while the machine of the tests stands still, no second of the other one's passes."""
    while seconds > 0:
        began = time.monotonic()
        if (code := child.wait(min(seconds, TICK))) is not None:
            return code
        seconds -= min(time.monotonic() - began, 2 * TICK)
    return None


def judged(run: Recorded, code: int | None) -> tuple[str, float, str]:
    """The kind of an end, the seconds that saving took, and what is wrong with it."""
    ends = sorted((run.folder / "attempts").glob("*.end.json"))
    begun = sorted((run.folder / "attempts").glob("??????.json"))
    if not begun:
        return ("not begun" if code in (75, -signal.SIGTERM) else "LOST"), 0.0, f"code {code}"
    if code == 0 and (run.folder / "result.json").is_file():
        return "completed", 0.0, ""
    if not ends or code != 75:
        return "LOST", 0.0, f"code {code}, {len(ends)} ends"
    end = json.loads(ends[-1].read_text())
    with Portal() as portal:
        blobs = open_blobs(run.store.as_uri())
        restored = Checkpoints(portal, blobs, RunPaths(run.id), 999_999).restore()
    if restored is None and end["step"] == 0 and end["reason"].endswith("nothing to save"):
        return "nothing yet", 0.0, ""
    match = SAVED.fullmatch(end["reason"])
    if restored is None or restored.damaged or restored.step != end["step"] or match is None:
        return "LOST", 0.0, f"{end['reason']}, checkpoint {restored and restored.step}"
    return "saved", float(match[2]), ""


@contextmanager
def machines(task: str, bucket: Bucket, place: Path) -> Iterator[Machines]:
    """Machines for one of the tasks, ready."""
    root = place / "project"
    root.mkdir(parents=True)
    Project.write(root, Path(__file__).with_name("spot_tasks.py").read_text())
    overrides = (f"task={task}", "checkpoint.every='3 steps'")
    recorded = Recorded.make(root, place / "recorded" / "store", *overrides)
    found = Machines(task, bucket, place, recorded)
    try:
        found.seconds = found.untouched()
        yield found
    finally:
        for zygote in found.zygotes:
            zygote.close()


def take(
    machines: Machines, notices: int, seed: int, *, workers: int = 1,
    heard: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:  # fmt: skip
    """Give so many notices, the clouds in turn; what became of the runs. workers: runs at a time."""

    def one(number: int) -> Verdict:
        chance = random.Random(f"{machines.task} {seed} {number}")
        while (found := machines.taken(CLOUDS[number % 3], chance)) is None:
            pass
        heard(found)
        return found

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, range(notices)))
