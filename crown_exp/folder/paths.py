"""Where everything of a run lies: paths relative to the store's root, and the way back.

runs/<id>/ run.json  config.yaml  result.json
           code/{commit,diff,untracked.tar.gz,lock}
           jobs/0001.json  jobs/0001.cancelled
           attempts/000001.json  attempts/000001.end.json
           log/<attempt>-<n>.seg     text/<attempt>-rank<r>.log
           checkpoints/<attempt>-<step>.json     checkpoints/<attempt>-<step>.damaged
           packs/<sha256>     files/
budget/<month>/<run>-<attempt>.json     environments/<key>.tar.gz     launches/<key>/0001
"""

from __future__ import annotations

import re
from dataclasses import dataclass

RUNS = "runs/"
"""The folder of all runs."""

BUDGET = "budget/"
"""The ledger: what every paid attempt has cost, by month."""

ENVIRONMENTS = "environments/"
"""The folder of the packed environments of jobs."""

LAUNCHES = "launches/"
"""The folder of the claims of commands that record runs for elsewhere just now."""

_ID = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_JOB = re.compile(r"jobs/(\d{4,})\.json")
_CANCELLED = re.compile(r"jobs/(\d{4,})\.cancelled")
_ATTEMPT = re.compile(r"attempts/(\d{6,})\.json")
_END = re.compile(r"attempts/(\d{6,})\.end\.json")
_CHECKPOINT = re.compile(r"checkpoints/(\d{6,})-(\d{12,})\.json")
_DAMAGED = re.compile(r"checkpoints/(\d{6,})-(\d{12,})\.damaged")
_SEGMENT = re.compile(r"log/(\d{6,})-(\d{6,})\.seg")


def is_id(text: str) -> bool:
    """Whether the text can be a run's id: a name of ASCII letters, digits, `-`, `_` and `.`."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The paths of one run: POSIX, no leading slash. Raises ValueError if the id is no name."""

    run_id: str

    def __post_init__(self) -> None:
        if not is_id(self.run_id):
            raise ValueError(f"not a run's id: {self.run_id!r}")

    @property
    def root(self) -> str:
        """The run's folder, without a slash at the end."""
        return f"{RUNS}{self.run_id}"

    @property
    def record(self) -> str:
        """The record whose presence makes the run exist."""
        return f"{self.root}/run.json"

    @property
    def config(self) -> str:
        """The resolved config."""
        return f"{self.root}/config.yaml"

    @property
    def result(self) -> str:
        """The result; its presence means completed or pruned."""
        return f"{self.root}/result.json"

    @property
    def code_commit(self) -> str:
        """The commit that the code snapshot is based on."""
        return f"{self.root}/code/commit"

    @property
    def code_diff(self) -> str:
        """What tracked files differ by from the commit."""
        return f"{self.root}/code/diff"

    @property
    def code_untracked(self) -> str:
        """The files that git does not track."""
        return f"{self.root}/code/untracked.tar.gz"

    @property
    def code_lock(self) -> str:
        """The lock file of the environment."""
        return f"{self.root}/code/lock"

    @property
    def jobs(self) -> str:
        """The prefix of all job records."""
        return f"{self.root}/jobs/"

    @property
    def attempts(self) -> str:
        """The prefix of all attempt and end records."""
        return f"{self.root}/attempts/"

    @property
    def log(self) -> str:
        """The prefix of all log segments."""
        return f"{self.root}/log/"

    @property
    def text(self) -> str:
        """The prefix of all text logs."""
        return f"{self.root}/text/"

    @property
    def checkpoints(self) -> str:
        """The prefix of all checkpoint manifests."""
        return f"{self.root}/checkpoints/"

    @property
    def packs(self) -> str:
        """The prefix of all packs of tensors."""
        return f"{self.root}/packs/"

    @property
    def files(self) -> str:
        """The prefix of all files that the task stored."""
        return f"{self.root}/files/"

    def job(self, number: int) -> str:
        """The record of the run's job `number`, counted from 1."""
        return f"{self.jobs}{number:04}.json"

    def cancelled(self, number: int) -> str:
        """The marker, a line of text with the reason, that job `number` was cancelled or is over."""
        return f"{self.jobs}{number:04}.cancelled"

    def attempt(self, attempt: int) -> str:
        """The fence: the record of attempt `attempt`, counted from 1."""
        return f"{self.attempts}{attempt:06}.json"

    def end(self, attempt: int) -> str:
        """How attempt `attempt` ended."""
        return f"{self.attempts}{attempt:06}.end.json"

    def log_of(self, attempt: int) -> str:
        """The prefix of the log segments of one attempt."""
        return f"{self.log}{attempt:06}-"

    def segment(self, attempt: int, number: int) -> str:
        """Log segment `number` of an attempt, counted from 1."""
        return f"{self.log_of(attempt)}{number:06}.seg"

    def text_log(self, attempt: int, rank: int) -> str:
        """What rank `rank` printed in an attempt."""
        return f"{self.text}{attempt:06}-rank{rank}.log"

    def checkpoint(self, attempt: int, step: int) -> str:
        """The manifest of the checkpoint that an attempt committed after `step` steps.

        Attempt 0 is what the run began with: a fork has the state of another run there.
        """
        return f"{self.checkpoints}{checkpoint_name(attempt, step)}.json"

    def damaged(self, attempt: int, step: int) -> str:
        """The marker, a line of text, that this checkpoint did not verify and is not to be used."""
        return f"{self.checkpoints}{checkpoint_name(attempt, step)}.damaged"

    def pack(self, sha256: str) -> str:
        """The pack with this digest (hexadecimal)."""
        return f"{self.packs}{sha256}"

    def job_number(self, path: str) -> int | None:
        """The number of the job whose record `path` is; None if it is none of this run's."""
        return _number(_JOB, self._inside(path))

    def cancelled_number(self, path: str) -> int | None:
        """The number of the job whose marker `path` is; None if it is none of this run's."""
        return _number(_CANCELLED, self._inside(path))

    def attempt_number(self, path: str) -> int | None:
        """The attempt whose fence record `path` is; None if it is none of this run's."""
        return _number(_ATTEMPT, self._inside(path))

    def end_number(self, path: str) -> int | None:
        """The attempt whose end record `path` is; None if it is none of this run's."""
        return _number(_END, self._inside(path))

    def segment_number(self, path: str) -> tuple[int, int] | None:
        """(attempt, number) of the log segment that `path` is; None if it is none of this run's."""
        return _numbers(_SEGMENT, self._inside(path))

    def checkpoint_number(self, path: str) -> tuple[int, int] | None:
        """(attempt, step) of the manifest that `path` is; None if it is none of this run's."""
        return _numbers(_CHECKPOINT, self._inside(path))

    def damaged_number(self, path: str) -> tuple[int, int] | None:
        """(attempt, step) of the checkpoint whose marker `path` is; None if it is none of this run's."""
        return _numbers(_DAMAGED, self._inside(path))

    def _inside(self, path: str) -> str:
        return path.removeprefix(f"{self.root}/") if path.startswith(f"{self.root}/") else ""


def spending_path(month: str, run: str, attempt: int) -> str:
    """The ledger's record of an attempt in a month (`2026-11`)."""
    return f"{BUDGET}{month}/{run}-{attempt}.json"


def environment_path(key: str) -> str:
    """The packed environment of a lock, which every job with that lock unpacks. key: hexadecimal."""
    return f"{ENVIRONMENTS}{key}.tar.gz"


def claims_of(key: str) -> str:
    """The prefix of the claims of those who record runs that have a key, a hash."""
    return f"{LAUNCHES}{key}/"


def claim_path(key: str, number: int) -> str:
    """A claim of those of a key, counted from 1."""
    return f"{claims_of(key)}{number:04}"


def claim_number(key: str, path: str) -> int:
    """The number of the claim that `path` is; 0 if it is none of this key."""
    number = path.removeprefix(claims_of(key))
    return int(number) if number.isdecimal() else 0


def _number(pattern: re.Pattern[str], inside: str) -> int | None:
    match = pattern.fullmatch(inside)
    return int(match[1]) if match else None


def _numbers(pattern: re.Pattern[str], inside: str) -> tuple[int, int] | None:
    match = pattern.fullmatch(inside)
    return (int(match[1]), int(match[2])) if match else None


def checkpoint_name(attempt: int, step: int) -> str:
    """What a checkpoint is called: `000001-000000000060`."""
    return f"{attempt:06}-{step:012}"
