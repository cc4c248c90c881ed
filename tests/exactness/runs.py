"""A run that is recorded once, copied for every case, seen through in whatever way, and held to its bits."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crown_exp.config.project import find_project
from crown_exp.face.starting import checked
from crown_exp.folder import RunPaths, decode_segment
from crown_exp.folder.segment import RESUMED
from crown_exp.launch.session import open_session
from crown_exp.launch.submit import Order
from crown_exp.runner.process import importable
from crown_exp.storage import Portal, open_blobs
from crown_exp.storage.file import HIDDEN
from crown_exp.tracking.replay import read_points
from tests.exactness.zygote import Child, Zygote

QUIET = ("tracker=none", "device.kind=cpu", "device.threads=1")


@contextmanager
def variables(**values: str) -> Iterator[None]:
    """These in the environment of this process."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class Recorded:
    """A run in a store of its own. store: its root. root: the project. begun: nothing of it, at first."""

    id: str
    store: Path
    root: Path

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.store / "runs" / self.id

    @classmethod
    def make(cls, root: Path, store: Path, *overrides: str) -> Recorded:
        """Record a run of a project as the command line does, and do not begin it."""
        home = {"CROWN_STORAGE__ROOT": str(store), "CROWN_HOME": str(store.parent / "home")}
        with chdir(root), variables(**home), importable(root):
            project = find_project(root)
            order = Order(*checked(project, (*QUIET, *overrides)))
            with open_session(project) as session:
                return cls(session.make(order).id, store, root)

    def copied(self, place: Path) -> Recorded:
        """The run as it is now, in another place: a run's folder is self-contained."""
        store = place / "store"
        shutil.copytree(self.folder, store / "runs" / self.id)
        return Recorded(self.id, store, self.root)

    def begin(self, zygote: Zygote, *, seams: Sequence[Any] = ()) -> Child:
        """What an executor starts: the run from its beginning, or from where it stopped."""
        return self.start(zygote, "run", str(self.folder), seams=seams)

    def resume(self, zygote: Zygote, *changes: str, seams: Sequence[Any] = ()) -> Child:
        """What a person types."""
        return self.start(zygote, "resume", self.id, *changes, seams=seams)

    def start(self, zygote: Zygote, *command: str, seams: Sequence[Any] = ()) -> Child:
        """A command in the run's project, with its store."""
        place = self.store.parent
        out = place / "said" / f"{len(list((place / 'said').glob('*'))):03}.txt"
        out.parent.mkdir(exist_ok=True)
        out.touch()
        return zygote.start(
            *command, cwd=self.root, out=out, seams=seams,
            environment={
                "CROWN_STORAGE__ROOT": str(self.store), "CROWN_HOME": str(place / "home"),
            },
        )  # fmt: skip

    def codes(self) -> list[int]:
        """The exit codes of its attempts; -1 for one without an end."""
        found = sorted((self.folder / "attempts").glob("??????.json"))
        ends = [path.with_name(f"{path.stem}.end.json") for path in found]
        return [json.loads(end.read_text())["exit_code"] if end.exists() else -1 for end in ends]

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is one that it can go on from."""
        return any((self.folder / "checkpoints").glob("??????-????????????.json"))

    def said(self) -> str:
        """What all its processes printed."""
        files = sorted((self.store.parent / "said").glob("*"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in files)


# --- what a run came to ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """All that must be the same: to the bit, whatever happened to the run on its way.

    leaves: of the newest checkpoint, by path: a tensor's form and bytes, or a plain value as JSON. curve:
    (step, name, value) of every point that counts, in order. files: name → digest of the newest.
    result: what result.json says, without who and when.
    """

    leaves: Mapping[str, bytes]
    curve: Sequence[tuple[int, str, str]]
    files: Mapping[str, str]
    result: Any

    @property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        found = hashlib.sha256()
        for path, data in sorted(self.leaves.items()):
            found.update(f"{path} {len(data)}\n".encode() + data)
        found.update(json.dumps([self.curve, sorted(self.files.items()), self.result]).encode())
        return found.hexdigest()

    def difference(self, other: Outcome) -> str:
        """The first metric, tensor, file or result that differs, by name and step; "" if nothing does."""
        for number, (mine, theirs) in enumerate(zip(self.curve, other.curve, strict=False)):
            if mine != theirs:
                (step, name, value), (its_step, its_name, its_value) = mine, theirs
                if (step, name) == (its_step, its_name):
                    return f"metric {name} at step {step} is {value} and {its_value}"
                return f"point {number} is {name} at step {step} and {its_name} at step {its_step}"
        if len(self.curve) != len(other.curve):
            return f"the curves have {len(self.curve)} and {len(other.curve)} points"
        for what, mine, theirs in (
            ("state", self.leaves, other.leaves),
            ("file", self.files, other.files),
        ):
            for name in sorted({*mine, *theirs}):
                if mine.get(name) != theirs.get(name):
                    return f"{what} {name} {unlike(mine.get(name), theirs.get(name))}"
        return "" if self.result == other.result else f"result {self.result} and {other.result}"

    def differing_bits(self, other: Outcome) -> int:
        """Of the state: bits that are not the same; a leaf that one lacks differs in all of its bits."""
        count = 0
        for path in {*self.leaves, *other.leaves}:
            mine, theirs = self.leaves.get(path, b""), other.leaves.get(path, b"")
            width = max(len(mine), len(theirs))
            pair = (int.from_bytes(data.ljust(width, b"\0"), "little") for data in (mine, theirs))
            first, second = pair
            count += (first ^ second).bit_count()
        return count


def unlike(mine: Any, theirs: Any) -> str:
    """How two leaves differ, in words."""
    if mine is None or theirs is None:
        return "is there once only"
    if isinstance(mine, str) or len(mine) < 80:
        return f"is {mine!r} and {theirs!r}"
    at = next(
        index for index, pair in enumerate(zip(mine, theirs, strict=False)) if len(set(pair)) > 1
    )
    return f"differs from its byte {at} of {len(mine)} on"


def outcome_of(run: Recorded) -> Outcome:
    """What a run came to, read from its folder alone."""
    with Portal() as portal:
        blobs = open_blobs(run.store.as_uri())
        points, problems = portal.call(read_points, blobs, run.id)
        problems = [line for line in problems if "torn" not in line]
        assert problems == [], problems
        state = newest_state(portal, blobs, run.id)
        leaves = dict(sorted(leaves_of(state))) if state is not None else {}
    curve = [
        (point.step, name, value.hex()) for point in points for name, value in point.values.items()
    ]
    result = run.folder / "result.json"
    kept = json.loads(result.read_text())
    return Outcome(leaves, curve, files_of(run.folder), [kept["step"], kept["result"]])


def resumed_events(run: Recorded) -> list[dict[str, Any]]:
    """What each attempt but the first said of where it went on."""
    segments = sorted((run.folder / "log").glob("*.seg"))
    batches = [batch for path in segments for batch in decode_segment(path.read_bytes()).batches]
    return [it[3] for batch in batches for it in batch if it[0] == "e" and it[2] == RESUMED]


def newest_state(portal: Portal, blobs: Any, run_id: str) -> Any:
    """The state in the newest checkpoint, every byte of it verified; None if there is none."""
    from crown_exp.checkpoints.checkpoints import Checkpoints

    restored = Checkpoints(portal, blobs, RunPaths(run_id), 999_999).restore()
    if restored is None:
        return None
    assert not restored.damaged, restored.damaged
    return {"step": restored.step, "state": restored.state}


def leaves_of(state: Any) -> Iterator[tuple[str, bytes]]:
    """Every leaf of a state by its path: a tensor's form and bytes, a plain value as JSON."""
    from crown_exp.checkpoints.tree import bits, flatten, is_tensor

    for path, leaf in flatten(state, "").items():
        if is_tensor(leaf):
            form = f"{leaf.dtype} {tuple(leaf.shape)} ".encode()
            yield path, form + bits(leaf).numpy().tobytes()
        else:
            yield path, json.dumps(leaf).encode()


def files_of(folder: Path) -> dict[str, str]:
    """The digest of the newest file of each name that the task stored."""
    found: dict[str, str] = {}
    for path in sorted((folder / "files").rglob("*")):
        if path.is_file() and not path.name.startswith(HIDDEN):  # litter of a killed write
            name = path.relative_to(folder / "files").as_posix().partition("/")[2]
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
