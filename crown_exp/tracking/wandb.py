"""W&B (https://wandb.ai): the only module that imports wandb, and does so in a process of its own.

There wandb may install exit hooks, print, replace handlers, hang or die: the run notices nothing, and shares
neither its interpreter lock nor its start with it.
"""

from __future__ import annotations

import base64
import hashlib
import netrc
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from crown_exp.config.project import find_project
from crown_exp.config.settings import variables
from crown_exp.errors import CrownError, SettingsError
from crown_exp.tracking.apart import Apart
from crown_exp.tracking.base import Artifact, Point, TrackedRun

STEP = "step"
"""W&B's name of our step. A metric that the task calls so is sent as `step_`."""
START_SECONDS = 90.0
"""How long W&B may take to know the run."""
SPAWN_SECONDS = 30.0
ANSWER_SECONDS = 120.0
FINISH_SECONDS = 12.0
"""A little more than a Feed waits, which then speaks first."""
ROWS_SECONDS = 300.0
TOGETHER = 500
"""Points in one message: encoding many at once would hold up the loop."""

Mode = Literal["online", "offline", "disabled"]
MODES: dict[str, Mode] = {
    "online": "online", "offline": "offline", "disabled": "disabled", "run": "online", "dryrun": "offline",
}  # fmt: skip
"""What WANDB_MODE may say, and what it means."""

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
        self.resumed = False
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
        if mode == "online":
            return f"W&B {self.url}"
        why = "" if self.mode == "offline" or known.get("WANDB_MODE") else " (no key is set)"
        return f"W&B offline{why}; to send it later, type: crown-exp push --wandb {run.id}"

    def log(self, points: Sequence[Point]) -> None:
        """Send points, in order."""
        for start in range(0, len(points), TOGETHER):
            self.call("log", points[start : start + TOGETHER])

    def artifact(self, artifact: Artifact) -> None:
        """Send a file: as a picture that can be leafed through, or beside the run's other files."""
        self.call("artifact", artifact.name, artifact.step, str(artifact.path), artifact.kind)

    def finish(self, exit_code: int, result: Any) -> None:
        """Wait until all is sent (online) or written (offline)."""
        self.call("finish", exit_code, jsonable(result), seconds=self.finish_seconds)
        if self.child is not None:
            self.child.end()

    def rows(self) -> list[tuple[int, float]]:
        """(step, time) of all that the run has there. For a run that was resumed, online."""
        found = self.call("rows", seconds=ROWS_SECONDS) or []
        return [(step, time) for step, time in found]

    def files(self) -> dict[str, str]:
        """Name and MD5 (or "") of all files that the run has there. For a run that was resumed, online."""
        return dict(self.call("files", seconds=ROWS_SECONDS) or {})

    def call(self, name: str, *arguments: Any, seconds: float = ANSWER_SECONDS) -> Any:
        """What W&B's process answers; None if W&B is disabled."""
        if self.child is None:
            return None
        return self.child.call(name, *arguments, seconds=seconds)


def chosen_mode(mode: str, known: Mapping[str, str]) -> Mode:
    """What `auto` comes to. known: the environment and .env. Raises SettingsError for a strange WANDB_MODE."""
    if mode == "auto" and (given := known.get("WANDB_MODE")):
        if given not in MODES:
            expected = "expected online, offline or disabled"
            raise SettingsError(f"WANDB_MODE: {expected}, got {given!r}")
        return MODES[given]
    if mode == "auto":
        return "online" if has_key(known) else "offline"
    return MODES[mode]


def has_key(known: Mapping[str, str]) -> bool:
    """Whether W&B would find a key: in the environment, .env, or the netrc file of `wandb login`."""
    if known.get("WANDB_API_KEY") or known.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(known.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc
    given = known.get("NETRC")
    for path in [Path(given)] if given else [Path("~/.netrc"), Path("~/_netrc")]:
        try:
            found = netrc.netrc(path.expanduser()).authenticators(host)
        except (OSError, netrc.NetrcParseError, RuntimeError):
            continue
        if found and found[2]:
            return True
    return False


def environment(known: Mapping[str, str], home: Path) -> dict[str, str]:
    """The environment of W&B's process: what it writes beside its runs stays in `home`.

    WANDB_SERVICE would lead it to the process of another wandb, which is not ours to load or to end.
    """
    ours = {
        "WANDB_CACHE_DIR": str(home / "cache"),
        "WANDB_DATA_DIR": str(home / "data"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }
    return {**ours, **{name: value for name, value in known.items() if name != "WANDB_SERVICE"}}


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
        self.wandb: Any = wandb
        with service():
            self.run: Any = wandb.init(
                id=told["id"], name=told["name"], group=told["sweep"], tags=told["tags"],
                config=told["config"], dir=str(home), resume="allow", project=options["project"],
                entity=options["entity"], mode=options["mode"], settings=wandb.Settings(**settings),
            )  # fmt: skip
            self.run.define_metric(STEP, hidden=True)
            self.run.define_metric("*", step_metric=STEP)
        return {
            "resumed": bool(self.run.resumed),
            "url": (options["mode"] == "online" and self.run.url) or "",
            "folder": str(Path(self.run.dir).parent),
        }

    def log(self, points: Sequence[Any]) -> None:
        """A row of W&B's history for each point (step, time, values)."""
        with service():
            for step, time, values in points:
                self.run.log({**renamed(values), STEP: step, "_timestamp": time})

    def artifact(self, name: str, step: int, path: str, kind: str) -> None:
        """A picture becomes part of the history; another file lies under `<step>/` of the run's files."""
        if not Path(path).exists():
            return  # replaced or deleted meanwhile; not W&B's affair
        if kind == "image":
            try:
                self.run.log({**renamed({name: self.wandb.Image(path)}), STEP: step})
            except Exception:
                pass  # of a format that W&B does not show, or without Pillow: as a file
            else:
                return
        kept = Path(self.run.dir) / str(step) / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
        with service():
            self.run.save(escaped(kept), base_path=self.run.dir, policy="now")

    def rows(self) -> list[tuple[int, float]]:
        """(step, time) of every row that is there already: what another attempt, or this one, sent."""
        found = self.wandb.Api(timeout=30).run(self.run.path)
        fresh: dict[str, Any] = {"use_cache": False}
        if "use_cache" not in signature(found.scan_history).parameters:  # wandb < 0.27 has none
            fresh = {}
        rows = found.scan_history(keys=[STEP, "_timestamp"], page_size=10_000, **fresh)
        return [(int(row[STEP]), float(row["_timestamp"])) for row in rows]

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
    own = (STEP, "_step", "_timestamp", "_runtime", "_wandb")
    return {
        f"{name}_" if name in own else name.encode("utf-8", "backslashreplace").decode(): value
        for name, value in values.items()
    }


def escaped(path: Path) -> str:
    """A path as a glob pattern that fits only itself."""
    import glob

    return glob.escape(os.fspath(path))
