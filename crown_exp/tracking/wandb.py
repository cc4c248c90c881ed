"""W&B (https://wandb.ai): the only module that imports wandb, and does so in a process of its own.

There wandb may install exit hooks, print, replace handlers, hang or die: the run notices nothing, and shares
neither its interpreter lock nor its start with it.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from crown_exp.config.project import find_project
from crown_exp.config.settings import variables
from crown_exp.errors import CrownError, SettingsError
from crown_exp.tracking.apart import Apart
from crown_exp.tracking.base import Artifact, Point, TrackedRun
from crown_exp.tracking.held import Held
from crown_exp.tracking.wandb_file import read_records
from crown_exp.tracking.wandb_mode import chosen_mode, environment

STEP = "step"
"""W&B's name of our step. A metric that the task calls so is sent as `step_`."""
START_SECONDS = 90.0
"""How long W&B may take to know the run."""
SPAWN_SECONDS = 30.0
ANSWER_SECONDS = 120.0
FINISH_SECONDS = 12.0
"""A little more than a Feed waits, which then speaks first."""
HELD_SECONDS = 300.0
ALONE_SECONDS = 40.0
"""How long the process of another attempt of the run is waited for; it ends soon after its run was killed."""
TOGETHER = 500
"""Points in one message: encoding many at once would hold up the loop."""

OWN = (STEP, "_step", "_timestamp", "_runtime", "_wandb")
"""Names that W&B has kept for itself."""

GONE = ("MailboxClosedError", "HandleAbandonedError")
"""Exceptions of wandb, by name, that mean that its service process is not there."""

LEAN = {
    "console": "off", "silent": True, "quiet": True, "save_code": False, "disable_code": True,
    "disable_git": True, "disable_job_creation": True, "x_disable_meta": True, "x_disable_stats": True,
    "x_save_requirements": False,
}  # fmt: skip
"""wandb.Settings without what reads the terminal, the code and the machine."""


class WandB:
    """Sends a run to W&B, every attempt to the same run there, whose id is ours.

    project, entity: as W&B takes them; None leaves it to WANDB_PROJECT, WANDB_ENTITY and W&B's settings.
    mode: auto asks WANDB_MODE; without that it is online if there is a key (WANDB_API_KEY, in the
    environment or the project's .env, or what `wandb login` left), else offline.
    """

    again = "crown-exp push --wandb"

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        mode: Literal["auto", "online", "offline", "disabled"] = "auto",
    ) -> None:
        self.project, self.entity, self.mode = project, entity, mode
        self.start_seconds, self.finish_seconds = START_SECONDS, FINISH_SECONDS
        self.child: Apart | None = None
        self.resumed = False  # whether the run was there before
        self.sent = 0
        self.url = ""
        self.folder = ""

    def start(self, run: TrackedRun) -> str | None:
        """Open or resume the run there. Raises CrownError if that is not possible."""
        known = variables(find_project(Path.cwd()))
        mode = chosen_mode(self.mode, known)
        if mode == "disabled":
            return None
        spec = find_spec("wandb")
        if spec is None or spec.origin is None:  # none, or a folder that only has the name
            raise SettingsError("W&B is not installed; type: pip install wandb")
        home = run.home / "wandb"
        self.child = Apart(
            "crown_exp.tracking.wandb:Session",
            environment=environment(known, home),
            said=home / f"{run.id}-{run.attempt}.txt",
        )
        options = {
            "project": self.project, "entity": self.entity, "mode": mode, "seconds": self.start_seconds
        }  # fmt: skip
        told = {
            "id": run.id, "name": run.name, "sweep": run.sweep, "tags": run.tags, "home": str(run.home),
            "config": jsonable(run.config),
        }  # fmt: skip
        answer = self.child.call("start", told, options, seconds=self.start_seconds + SPAWN_SECONDS)
        self.resumed, self.url, self.folder = answer["resumed"], answer["url"], answer["folder"]
        if run.resumed is not None:
            self.hold(run.resumed)
            self.catch_up(run.earlier())
        if mode == "online":
            return f"W&B {self.url}"
        why = "" if self.mode == "offline" or known.get("WANDB_MODE") else " (no key is set)"
        return f"W&B offline{why}; to send it later, type: crown-exp push --wandb {run.id}"

    def hold(self, since: int) -> None:
        """Learn what W&B has of the run, so that nothing is sent twice. since: the step after which it goes on.

        W&B has what the server has; offline, what files on this machine have.
        """
        self.call("hold", since, seconds=HELD_SECONDS)

    def catch_up(self, earlier: Sequence[Point]) -> None:
        """Send what W&B lacks of the run's points up to that step: a process that was killed lost some."""
        self.send("catch_up", earlier)

    def log(self, points: Sequence[Point]) -> str | None:
        """Send points, in order, that W&B does not have. Returns a line if it has other values of some."""
        differs = self.send("log", points)
        if differs is None:
            return None
        return (
            f"from step {differs} on this attempt's values are not those of an earlier one, which W&B has and "
            "keeps; the run's own log has this attempt's"
        )

    def send(self, how: str, points: Sequence[Point]) -> int | None:
        """Send points in pieces; the first step of which W&B has other values, once."""
        told = []
        for start in range(0, len(points), TOGETHER):
            sent, differs = self.call(how, points[start : start + TOGETHER]) or (0, None)
            self.sent += sent
            told += [differs] if differs is not None else []
        return min(told, default=None)

    def artifact(self, artifact: Artifact) -> None:
        """Send a file: as a picture that can be leafed through, or beside the run's other files."""
        self.call("artifact", artifact.name, artifact.step, str(artifact.path), artifact.kind)

    def finish(self, exit_code: int, result: Any) -> None:
        """Wait until all is sent (online) or written (offline)."""
        self.call("finish", exit_code, jsonable(result), seconds=self.finish_seconds)
        if self.child is not None:
            self.child.end()

    def files(self) -> dict[str, str]:
        """Name and MD5 (or "") of all files that the run has there. For a run that was resumed, online."""
        return dict(self.call("files", seconds=HELD_SECONDS) or {})

    def call(self, name: str, *arguments: Any, seconds: float = ANSWER_SECONDS) -> Any:
        """What W&B's process answers; None if W&B is disabled."""
        if self.child is None:
            return None
        return self.child.call(name, *arguments, seconds=seconds)


def jsonable(value: Any) -> Any:
    """Plain values as they are, anything else as its text."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def take_listed(listed: dict[str, str], artifact: Artifact) -> bool:
    """Whether W&B lists a file with this name and content; if so, it is taken off the list.

    A picture may also be part of the history: as `media/images/<name>_<row>_<begin of its SHA-256>`.
    """
    found = f"{artifact.step}/{artifact.name}"
    if listed.get(found):
        with artifact.path.open("rb") as file:
            sum_ = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        if listed[found] in (base64.b64encode(sum_.digest()).decode(), sum_.hexdigest()):
            del listed[found]
            return True
    if artifact.kind != "image":
        return False
    begin = f"media/images/{artifact.name}_"
    pictures = [name for name in listed if name.startswith(begin)]
    if not pictures:
        return False
    with artifact.path.open("rb") as file:
        end = hashlib.file_digest(file, "sha256").hexdigest()[:20]
    for name in pictures:
        if name.rpartition("_")[2].startswith(end):
            del listed[name]
            return True
    return False


@contextmanager
def service() -> Iterator[None]:
    """What wandb says of a service process that is gone, as what it means."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ConnectionError) or type(error).__name__ in GONE:
            raise CrownError("W&B's process was ended") from None
        raise


class Session:
    """What talks to wandb, within its process; plain values in, plain values out."""

    def start(self, told: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """`wandb.init`. told: of a TrackedRun, as plain values. options: project, entity, mode, seconds."""
        import wandb

        settings: dict[str, Any] = {
            name: value for name, value in LEAN.items() if name in wandb.Settings.model_fields
        }
        settings["init_timeout"] = options["seconds"]
        home = Path(told["home"])
        home.mkdir(parents=True, exist_ok=True)
        alone(home / "wandb" / f"{told['id']}.lock")
        self.wandb: Any = wandb
        self.held: Held[float | None] | None = None
        self.told = False
        with service():
            self.run: Any = wandb.init(
                id=told["id"], name=told["name"], group=told["sweep"], tags=told["tags"],
                config=told["config"], dir=str(home), resume="allow", project=options["project"],
                entity=options["entity"], mode=options["mode"], settings=wandb.Settings(**settings),
            )  # fmt: skip
            self.run.define_metric(STEP, hidden=True)
            self.run.define_metric("*", step_metric=STEP)
        self.online = options["mode"] == "online"
        self.home = home
        return {
            "resumed": bool(self.run.resumed),
            "url": (options["mode"] == "online" and self.run.url) or "",
            "folder": str(Path(self.run.dir).parent),
        }

    def hold(self, since: int) -> None:
        """Read what is there of the run: on the server, or offline in the files of this machine."""
        self.held = Held(since)
        for row in self.rows_online() if self.online else self.rows_of_files():
            step = number(row.get(STEP))
            if step is not None and step.is_integer():
                values = {name: number(it) for name, it in row.items() if name not in OWN}
                self.held.add(int(step), values)

    def rows_online(self) -> Iterator[Mapping[str, Any]]:
        """Every row of history on the server: what other attempts, or this one, sent."""
        if not self.run.resumed:
            return
        found = self.wandb.Api(timeout=30).run(self.run.path)
        fresh: dict[str, Any] = {"use_cache": False}
        if "use_cache" not in signature(found.scan_history).parameters:  # wandb < 0.27 has none
            fresh = {}
        yield from found.scan_history(page_size=10_000, **fresh)

    def rows_of_files(self) -> Iterator[dict[str, Any]]:
        """Every row of history in files that other attempts left on this machine, as far as they are whole."""
        from wandb.proto import wandb_internal_pb2

        parse: Callable[[bytes], Any] = vars(wandb_internal_pb2)["Record"].FromString
        ours = Path(self.run.dir).parent
        for path in sorted((self.home / "wandb").glob(f"*run-*/run-{self.run.id}.wandb")):
            if path.parent == ours:
                continue
            with path.open("rb") as file:
                for data in read_records(file):
                    record = parse(data)
                    if record.WhichOneof("record_type") == "history":
                        yield {
                            item.nested_key[0] if item.nested_key else item.key: item.value_json
                            for item in record.history.item
                        }

    def catch_up(self, points: Sequence[Any]) -> tuple[int, None]:
        """Log what is not there of points that earlier attempts logged; of how many that was something."""
        assert self.held is not None
        return self.log_each(points, self.held.lost), None

    def log(self, points: Sequence[Any]) -> tuple[int, int | None]:
        """Log what is not there of points; of how many that was, and the first step that differs, once."""
        if self.held is None:
            return self.log_each(points, lambda _, values: dict(values)), None
        sent = self.log_each(points, self.held.fresh)
        differs = None if self.told else self.held.differs
        self.told = self.told or differs is not None
        return sent, differs

    def log_each(
        self, points: Sequence[Any], lacking: Callable[[int, Mapping[str, Any]], dict[str, Any]]
    ) -> int:
        """A row of history for each point (step, time, values) of which something is lacking; how many."""
        sent = 0
        with service():
            for step, moment, values in points:
                if left := lacking(step, renamed(values)):
                    self.run.log({**left, STEP: step, "_timestamp": moment})
                    sent += 1
        return sent

    def artifact(self, name: str, step: int, path: str, kind: str) -> None:
        """A picture becomes part of the history; another file lies under `<step>/` of the run's files."""
        if not Path(path).exists():
            return  # replaced or deleted meanwhile; not W&B's affair
        if kind == "image":
            as_value: dict[str, Any] = renamed({name: None})
            if self.held is not None and not self.held.fresh(step, as_value):
                return
            try:
                self.run.log({**dict.fromkeys(as_value, self.wandb.Image(path)), STEP: step})
            except Exception:
                pass  # of a format that W&B does not show, or without Pillow: as a file
            else:
                return
        kept = Path(self.run.dir) / str(step) / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
        with service():
            self.run.save(escaped(kept), base_path=self.run.dir, policy="now")

    def files(self) -> dict[str, str]:
        """Name and MD5 of the files that are there; none if W&B does not tell: then they are sent again."""
        try:
            found = self.wandb.Api(timeout=30).run(self.run.path).files(per_page=1_000)
            return {file.name: file.md5 or "" for file in found}
        except Exception:
            return {}

    def finish(self, exit_code: int, result: Any) -> None:
        """The result into the summary; then wait for wandb to end."""
        with service():
            if result is not None:
                self.run.summary["result"] = result
            self.run.finish(exit_code=exit_code)
            self.wandb.teardown(exit_code)

    def abandoned(self) -> None:
        """The run's process is gone: what it sent is kept."""
        if getattr(self, "run", None) is not None:
            self.run.finish(exit_code=1)


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by names that W&B has not kept for itself."""
    return {
        f"{name}_" if name in OWN else name.encode("utf-8", "backslashreplace").decode(): value
        for name, value in values.items()
    }


def number(value: Any) -> float | None:
    """A value of a row, which may be JSON, as the number it is; None for what is none, as a picture."""
    try:
        return float(value)  # of `"NaN"`, too, which is how JSON has it
    except (TypeError, ValueError):
        return None


def alone(path: Path) -> None:
    """Wait until no other process of this machine writes to a run. path: of the lock, held until this one ends.

    Raises CrownError if there still is one after a while.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    until = time.monotonic() + ALONE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise CrownError("another attempt of the run is still being sent") from None
            time.sleep(0.1)
        else:
            return


def escaped(path: Path) -> str:
    """A path as a glob pattern that fits only itself."""
    import glob

    return glob.escape(os.fspath(path))
