"""What is done to a store of runs, each with what must hold afterwards whatever befell it (see sweeps)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch

from crown_exp.checkpoints import Keep, Restored, Saved, Unsaved
from crown_exp.checkpoints.checking import checked, numbers_of
from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.checkpoints.listing import adopt
from crown_exp.checkpoints.pruning import plan_prune, prune
from crown_exp.errors import StoreError
from crown_exp.folder import (
    AttemptRecord,
    EndRecord,
    Here,
    ResultRecord,
    RunPaths,
    RunRecord,
)
from crown_exp.folder.records import decode
from crown_exp.storage import BlobStore, NotFound
from crown_exp.storage.runs import claim_attempt, read_run, write_end, write_result, write_run
from tests.checkpoint_states import PATHS, attempt, same, saved
from tests.s3.sweeps import Operation, World

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FORK = RunPaths("r261122-f0rk00")
LITTER = PATHS.pack("0" * 64)


def state(step: int) -> Any:
    """Two packs: one that never changes, one that does."""
    seeded = torch.Generator().manual_seed(step)
    return {"w": torch.randn(5000, generator=seeded), "step": step, "frozen": torch.arange(2500)}


def save(checkpoints: Checkpoints, step: int) -> Any:
    """Save, and say what came of it."""
    now = state(step)
    return saved(checkpoints, step, now, frozen={id(now["frozen"])})


def saves(
    world: World, blobs: BlobStore, *steps: int, number: int = 1, keep: int = 9
) -> Checkpoints:
    """An attempt that goes on from what is there, and has saved these steps."""
    made = attempt(world.portal, blobs, number, keep=Keep(last=keep))
    made.restore()
    for step in steps:
        assert isinstance(outcome := save(made, step), Saved), outcome
    return made


def marks(world: World) -> list[str]:
    """Markers of damage in the store."""
    return [key for key in world.bucket.keys(world.prefix) if key.endswith(".damaged")]


def restored(world: World, paths: RunPaths = PATHS) -> Restored | None:
    """As the next process would have it, by the direct way."""
    return Checkpoints(world.portal, world.again(), paths, 99).restore()


def what_is_wrong(world: World, *allowed: int, paths: RunPaths = PATHS) -> str:
    """With the newest checkpoint: it is after one of these steps (0: there is none), to the bit."""
    if found := marks(world):
        return f"wrong: {found[0]} is there"
    try:
        now = restored(world, paths)
    except Exception as error:
        return f"lost: {error}"
    step = now.step if now else 0
    if now is not None and now.damaged:
        return f"wrong: {now.damaged[0]}"
    if now is not None and not same(state(step), now.state):
        return f"wrong: step {step} has other bytes than were saved"
    if step not in allowed:
        kind = "lost" if step < min(allowed) else "wrong"
        return f"{kind}: step {step} is restored, not one of {allowed}"
    return ""


class Save:
    """A save after others of the same attempt. before_it: the steps that were saved before."""

    def __init__(self, name: str, *before_it: int, keep: int = 9) -> None:
        self.name, self.before_it, self.keep = name, before_it, keep

    @property
    def step(self) -> int:
        """That is saved."""
        return max(self.before_it, default=0) + 1

    def before(self, world: World) -> None:
        """The same attempt has saved before, through the proxy."""
        world.kept = saves(world, world.through, *self.before_it, keep=self.keep)

    def act(self, world: World) -> None:
        """Save once."""
        outcome = save(world.kept, self.step)
        if isinstance(outcome, Unsaved):
            raise StoreError(outcome.why)
        assert isinstance(outcome, Saved)
        assert world.kept.saved == self.step
        if world.kept.trouble:  # its retention
            raise StoreError(world.kept.trouble)

    def judge(self, world: World, done: bool) -> str:
        """What was saved is there; then the same attempt saves on, and that is there.

        It is saved once that was told, though its retention may not be done.
        """
        before = max(self.before_it, default=0)
        sure = done or world.kept.saved == self.step
        wrong = what_is_wrong(world, self.step, *(() if sure else (before,)))
        if wrong:
            return wrong
        outcome = save(world.kept, self.step + 1)
        if not isinstance(outcome, Saved):
            return f"wrong: the next save is {outcome}"
        return what_is_wrong(world, self.step + 1)


class Restore:
    """The newest of two, however the answers come."""

    name = "restore"

    def before(self, world: World) -> None:
        """Two checkpoints of one pack each that differs."""
        saves(world, world.direct, 1, 2)

    def act(self, world: World) -> None:
        """By the next attempt."""
        world.kept = None
        world.kept = attempt(world.portal, world.through, 2).restore()

    def judge(self, world: World, done: bool) -> str:
        """A fault of the network is no reason to take an older one."""
        if done:
            got = world.kept
            if got is None or got.step != 2 or got.damaged or not same(state(2), got.state):
                return f"wrong: restored {got and (got.step, got.damaged)}"
        return what_is_wrong(world, 2)


class RestorePastDamage:
    """The newest is damaged in earnest: the one before, and the damaged one is marked."""

    name = "restore past damage"

    def before(self, world: World) -> None:
        """A byte of what only the newest names is turned."""
        saves(world, world.direct, 1)
        old = set(world.bucket.keys(world.prefix))
        saves(world, world.direct, 2, number=2)
        (key,) = [
            key for key in world.bucket.keys(world.prefix) if "/packs/" in key and key not in old
        ]
        data = bytearray(world.bucket.read(key))
        data[100] ^= 4
        world.bucket.write(key, bytes(data))

    def act(self, world: World) -> None:
        """By the next attempt."""
        world.kept = None
        world.kept = attempt(world.portal, world.through, 3).restore()

    def judge(self, world: World, done: bool) -> str:
        """Step 1 to the bit, and no other mark than one for step 2."""
        mine = [key for key in marks(world) if f"{2:06}-{2:012}" not in key]
        if mine:
            return f"wrong: {mine[0]} is there"
        got = world.kept if done else restored(world)
        if got is None or got.step != 1 or not same(state(1), got.state):
            return f"wrong: restored {got and got.step}"
        return "" if not done or len(got.damaged) == 1 else f"wrong: told {got.damaged}"


class Retain:
    """Of four the newest stays; packs that nothing names go, too."""

    name = "retention"

    def before(self, world: World) -> None:
        """Four checkpoints, and a pack of a save that was killed."""
        saves(world, world.direct, 1, 2, 3, 4)
        world.portal.call(world.direct.put, LITTER, b"left behind")
        world.kept = attempt(world.portal, world.through, 1, keep=Keep(last=1))
        world.kept.restore()

    def act(self, world: World) -> None:
        """As after a save."""
        world.portal.call(world.kept.retention.retain, (1, 4), world.kept.packs)
        left = [key for key in world.bucket.keys(world.prefix) if ".crown-" not in key]
        assert [key.split("/")[3] for key in left] == ["checkpoints", "packs", "packs"], left

    def judge(self, world: World, done: bool) -> str:
        """All that has a manifest is whole; done or not, the next save's retention ends it."""
        if wrong := what_is_wrong(world, 4) or halves(world):
            return wrong
        saves(world, world.direct, 5, number=2, keep=1)
        return halves(world) or what_is_wrong(world, 5)


class Prune:
    """The words' way to the same, of a run that nobody runs."""

    name = "prune"

    def before(self, world: World) -> None:
        """Four checkpoints, and a pack of a save that was killed."""
        saves(world, world.direct, 1, 2, 3, 4)
        world.portal.call(world.direct.put, LITTER, b"left behind")

    def act(self, world: World) -> None:
        """Plan it, and carry it out."""
        plan = world.portal.call(plan_prune, world.through, PATHS, Keep(last=1))
        world.portal.call(prune, world.through, PATHS, plan)
        left = [key for key in world.bucket.keys(world.prefix) if ".crown-" not in key]
        assert [key.split("/")[3] for key in left] == ["checkpoints", "packs", "packs"], left

    def judge(self, world: World, done: bool) -> str:
        """All that has a manifest is whole; done again it ends."""
        if wrong := what_is_wrong(world, 4) or halves(world):
            return wrong
        if not done:
            plan = world.portal.call(plan_prune, world.direct, PATHS, Keep(last=1))
            world.portal.call(prune, world.direct, PATHS, plan)
        return halves(world) or what_is_wrong(world, 4)


def halves(world: World) -> str:
    """A checkpoint that has a manifest but not its packs."""
    for number in world.portal.call(numbers_of, world.direct, PATHS):
        verdict = world.portal.call(checked, world.direct, PATHS, number)
        if not verdict.whole:
            return f"lost: {verdict.name} has its manifest, and {verdict.why}"
    return ""


class Adopt:
    """A fork: copies on the server's side."""

    name = "fork"

    def before(self, world: World) -> None:
        """A run with two steps."""
        saves(world, world.direct, 1, 2)

    def act(self, world: World) -> None:
        """The newest becomes what another run begins with."""
        world.portal.call(adopt, world.through, PATHS, FORK, None)

    def judge(self, world: World, done: bool) -> str:
        """The source is as it was; the fork is whole or not there, and doing it again is fine."""
        wrong = what_is_wrong(world, 2) or what_is_wrong(
            world, 2, *(() if done else (0,)), paths=FORK
        )
        if not wrong and not done:
            world.portal.call(adopt, world.direct, PATHS, FORK, None)
            wrong = what_is_wrong(world, 2, paths=FORK)
        return wrong


# --- records ----------------------------------------------------------------------------------------------


def attempt_record(number: int, pid: int = 4711) -> AttemptRecord:
    """Of a process of another machine."""
    return AttemptRecord(
        PATHS.run_id, number, NOW, "elsewhere", pid, None, "another boot", None, {}, {}
    )


HERE = Here("here", "this boot", lambda pid, started: False)


class Claim:
    """The fence: attempt 2 begins after attempt 1 has ended."""

    name = "fence"

    def before(self, world: World) -> None:
        """An attempt that ended."""
        claim = world.portal.call
        claim(claim_attempt, world.direct, PATHS.run_id, attempt_record, HERE)
        claim(
            write_end, world.direct, EndRecord(PATHS.run_id, 1, NOW, 75, 3, "preempted", None, None)
        )

    def act(self, world: World) -> None:
        """Claim."""
        world.kept = None
        world.kept = world.portal.call(
            claim_attempt,
            world.through,
            PATHS.run_id,
            lambda number: attempt_record(number, 12),
            HERE,
        )

    def judge(self, world: World, done: bool) -> str:
        """Exactly one attempt 2 at most; who was told so has it; the next claim gets the next number."""
        path = PATHS.attempt(2)
        try:
            held = decode(AttemptRecord, world.portal.call(world.direct.get, path), path)
        except NotFound:
            held = None
        if done and (world.kept.attempt != 2 or held != world.kept):
            return f"wrong: told {world.kept}, there is {held}"
        later = world.portal.call(
            claim_attempt, world.direct, PATHS.run_id, attempt_record, HERE, take_over=True
        )
        wanted = 2 if held is None else 3
        return (
            "" if later.attempt == wanted else f"wrong: the next is {later.attempt}, not {wanted}"
        )


RUN = RunRecord(
    id=PATHS.run_id, name="test", experiment=None, user="me", created=NOW, task="tasks.train",
    signature="v1:0", overrides=["task=train"], tags=[], seed=1, compute="local", sweep=None,
    lineage=None, code=None, bound=[],
)  # fmt: skip
RESULT = ResultRecord(PATHS.run_id, 1, 5, NOW, {"accuracy": 0.5})
END = EndRecord(PATHS.run_id, 1, NOW, 0, 5, "completed", None, None)


class Write:
    """A record that is written once. Writing the same again is fine; another is refused."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _write(self, world: World, blobs: BlobStore, other: bool = False) -> None:
        call = world.portal.call
        match self.name:
            case "write_run":
                call(write_run, blobs, replace(RUN, seed=2) if other else RUN, b"task: {}\n")
            case "write_result":
                call(write_result, blobs, replace(RESULT, result=0) if other else RESULT)
            case _:
                call(write_end, blobs, replace(END, exit_code=1) if other else END)

    def before(self, world: World) -> None:
        """Nothing."""

    def act(self, world: World) -> None:
        """Write."""
        self._write(world, world.through)

    def judge(self, world: World, done: bool) -> str:
        """If it was told as done it is there; else it can be written now, and not another."""
        path = {"write_run": PATHS.record, "write_result": PATHS.result}.get(
            self.name, PATHS.end(1)
        )
        if done:
            try:
                world.portal.call(world.direct.get, path)
            except NotFound:
                return f"lost: {path}"
        self._write(world, world.direct)
        try:
            self._write(world, world.direct, other=True)
        except StoreError:
            pass
        else:
            return f"wrong: {path} was written over"
        if (
            self.name == "write_run"
            and world.portal.call(read_run, world.direct, PATHS.run_id) != RUN
        ):
            return "wrong: another run is there"
        return ""


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Save("first save"),
        Save("second save", 1),
        Save("save and retention", 1, 2, keep=1),
        Restore(),
        RestorePastDamage(),
        Retain(),
        Prune(),
        Adopt(),
        Claim(),
        Write("write_run"),
        Write("write_result"),
        Write("write_end"),
    )
}
