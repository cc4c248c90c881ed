"""What is asked of the registry, and what it answers. Imports no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from crown_exp.folder.records import CodeState, Failure, SweepPlace
from crown_exp.outcome import State
from crown_exp.storage.database.base import database_url, path_of

if TYPE_CHECKING:
    from crown_exp.config.settings_model import Settings

REINDEX = "`crown-exp reindex` makes it anew from the runs"
"""What to do about an index that is of no use."""

MOST = 2**31 - 1
"""The most that may be asked for: more than any index holds, and what every database counts to."""

LATEST = "latest"
"""What is typed for the run that was made last."""

Operator = Literal["<", "<=", ">", ">=", "=", "!=", "~"]
Statistic = Literal["", "last", "min", "max"]


def default_url(home: Path) -> str:
    """The URL of the registry of a home (`CROWN_HOME`)."""
    return database_url(home / "registry.db")


def chosen_url(settings: Settings) -> str:
    """The URL of the registry that the settings choose."""
    url = settings.database.url
    return url.get_secret_value() if url else default_url(settings.home)


def check_url(url: str) -> None:
    """Raises SettingsError if no registry can be there."""
    path_of(url)


# --- questions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """A value of a run by its name: `accuracy`, `optimizer.lr`, `lr`, `min(loss)`.

    It stands for the first of these that a run has: the result of that name, the config's key, the metric
    (its last value, or the statistic that is asked for). A result or key may go by the part after its last dot.
    """

    name: str
    statistic: Statistic = ""

    def __str__(self) -> str:
        return f"{self.statistic}({self.name})" if self.statistic else self.name


@dataclass(frozen=True, slots=True)
class Condition:
    """`lr < 0.01`, `model = cnn`, `name ~ text`. A run without that value does not fit, nor does nan."""

    wanted: Wanted
    operator: Operator
    value: float | str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs: those that fit everything that is said.

    states: one of them. tags: all of them. newer, older: than so long ago.
    """

    experiment: str | None = None
    states: frozenset[State] = frozenset()
    tags: tuple[str, ...] = ()
    user: str | None = None
    sweep: str | None = None
    name: str | None = None
    compute: str | None = None
    signature: str | None = None
    newer: timedelta | None = None
    older: timedelta | None = None
    where: tuple[Condition, ...] = ()


# --- answers --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run, as far as a line of a table needs it.

    store: the URL of the store its folder is in. attempt: the newest one's number, 0 without any.
    started: its first attempt. ended, exit_code, reason: None while an attempt goes on. step: the last
    that is done, or logged. result: what the task returned. bytes: of its folder. mark: changes with it.
    values: what was asked for, by how it was asked for: numbers, text, or None for what the run has not.
    stopping: why it stops at the end of the turn that it is in, while it does. lost: how many steps had to be
    done again, over all attempts. exact_until: the step after which numerics changed; None: none did.
    """

    id: str
    name: str
    experiment: str | None
    user: str
    state: State
    task: str
    signature: str
    compute: str
    seed: int
    created: datetime
    overrides: tuple[str, ...]
    tags: tuple[str, ...]
    note: str
    sweep: SweepPlace | None
    code: CodeState | None
    lineage: Mapping[str, Any] | None
    attempt: int
    started: datetime | None
    ended: datetime | None
    exit_code: int | None
    reason: str | None
    last_beat: datetime | None
    step: int
    result: Any
    bytes: int
    store: str
    values: Mapping[str, float | str | None] = field(default_factory=dict)
    stopping: str | None = None
    lost: int = 0
    exact_until: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some runs in order. more: whether others follow. total: of all that fit, None if that is not known."""

    runs: tuple[RunInfo, ...]
    more: bool
    total: int | None


@dataclass(frozen=True, slots=True)
class Resumed:
    """From where an attempt went on. step: the last that was not done again; 0: from the start.

    lost: how many steps had been done after it. checkpoint: its name; None without any. damaged: a line for
    each checkpoint that was passed over. numerics: [then, now] of what differs from the attempt that saved it:
    the run is not bit for bit comparable from here on.
    """

    step: int
    lost: int
    checkpoint: str | None
    damaged: tuple[str, ...]
    numerics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Saves:
    """What a run has saved so far: how often, and of the newest the step, the bytes and when that was.

    time: seconds since 1970, UTC. Older ones may have been removed since.
    """

    count: int
    step: int
    bytes: int | None
    time: float


@dataclass(frozen=True, slots=True)
class AttemptInfo:
    """One process life of a run; what is None has not happened or is not known.

    changes: what it and earlier ones changed against the run's config, by dotted key. saved: the step of the
    run's newest checkpoint when it ended. resumed: from where it went on; None for what began the run.
    step: the last that it did.
    """

    attempt: int
    started: datetime | None
    host: str | None
    job: str | None
    numerics: Mapping[str, Any] | None
    versions: Mapping[str, Any] | None
    ended: datetime | None
    exit_code: int | None
    step: int | None
    reason: str | None
    error: Failure | None
    code_hash: str | None
    changes: Mapping[str, Any] | None = None
    saved: int | None = None
    resumed: Resumed | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """A metric of a run: how many points, the last one, the least and the greatest that is not nan.

    Of several steps with the least (or greatest) value, the first is told. None: there is nothing but nan.
    """

    n: int
    last_step: int
    last: float
    min: float | None
    min_step: int | None
    max: float | None
    max_step: int | None


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file that the task stored. path: below the run's `files/`; kind: image, array, table, text, file."""

    path: str
    step: int | None
    bytes: int
    kind: str


@dataclass(frozen=True, slots=True)
class EventInfo:
    """Something that happened in an attempt. time: seconds since 1970, UTC."""

    attempt: int
    time: float
    kind: str
    data: Any


@dataclass(frozen=True, slots=True)
class Details:
    """A run with all that one look at it shows. config: as composed, None if it could not be read.

    saves: None if it never saved. forks: (id, step) of runs that were forked from it, as far as they are known.
    """

    run: RunInfo
    config: Mapping[str, Any] | None
    attempts: tuple[AttemptInfo, ...]
    summaries: Mapping[str, Summary]
    files: tuple[FileInfo, ...]
    events: tuple[EventInfo, ...]
    saves: Saves | None = None
    forks: tuple[tuple[str, int | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric over steps: lists of equal length, by step; times in seconds since 1970, UTC."""

    run: str
    metric: str
    steps: list[int]
    values: list[float]
    times: list[float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs beside each other: every tuple has an entry for each run, None where it has none.

    config: the keys in which they differ, as text that one would type. results: every plain value of their
    results, as text. summaries: every metric. same_code: whether commit and changes are the same in all;
    None if one of them has no record of its code.
    """

    runs: tuple[RunInfo, ...]
    config: Mapping[str, tuple[str | None, ...]]
    results: Mapping[str, tuple[str | None, ...]]
    summaries: Mapping[str, tuple[Summary | None, ...]]
    same_code: bool | None


# --- what reading folders did ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one run: how many new records of its log were read, whether it is gone.

    problems: what could not be read, each in a line; the rest was taken in.
    """

    run: str
    records: int = 0
    gone: bool = False
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a look at the store brought. looked: runs that were read; gone: those no longer there.

    left: how many the time did not suffice for.
    """

    looked: int = 0
    gone: tuple[str, ...] = ()
    left: int = 0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reindexed:
    """An index that was made anew. moved: where what was no database has been moved to."""

    runs: int
    problems: tuple[str, ...] = ()
    moved: Path | None = None


@dataclass(frozen=True, slots=True)
class Deletion:
    """What deleting a run frees: files and bytes of its folder."""

    run: str
    files: int
    bytes: int
