"""The JSON records of a run's folder: what they hold, and their bytes.

Bytes are indented UTF-8 JSON with a newline at the end, `format` first, then the fields in order;
times are ISO strings ending in Z. Numbers that are not finite are written as Python's json does
(`NaN`, `Infinity`, `-Infinity`), so that a result that holds one is kept rather than refused.

A reader ignores keys it does not know and takes defaults for fields that an older writer did not
have. A format number above its own means that the record cannot be understood, and is refused.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import (
    Any,
    ClassVar,
    TypedDict,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from crown_exp.clock import isoformat, parse_iso
from crown_exp.errors import CrownError


class Damaged(CrownError):
    """A record that is not what was written. No StoreError: the store gave what it holds."""

    exit_code = 80


class NewerFormat(CrownError):
    """A record of a later crown_exp, which this one must not guess at."""

    exit_code = 2


class SweepPlace(TypedDict):
    """Which run of which sweep: `number` of `of`, counted from 1; `of` is None while it is open."""

    id: str
    number: int
    of: int | None


class CodeState(TypedDict):
    """The code a run was composed with: commit, whether files differ from it, snapshot's sha256."""

    commit: str | None
    dirty: bool
    snapshot: str | None


class Failure(TypedDict):
    """The exception that ended an attempt."""

    type: str
    message: str
    traceback: str


class CodeHash(TypedDict):
    """The project files that an attempt imported, and the hash over their contents."""

    hash: str
    files: list[str]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """run.json: who a run is. Written once by the composer; the resolved config lies beside it.

    task: the target of the user's function, as `package.module.function`.
    compute: the name of the compute target.
    bound: the config groups bound to parameters of the task.
    """

    format: ClassVar[int] = 1

    id: str
    name: str
    experiment: str | None
    user: str
    created: datetime
    task: str
    signature: str
    overrides: list[str]
    tags: list[str]
    seed: int
    compute: str
    sweep: SweepPlace | None
    lineage: dict[str, Any] | None
    code: CodeState | None
    bound: list[str]


class Rate(TypedDict):
    """What one machine, or all of a run together, costs somewhere. accelerators: `A100:1`, "" for none."""

    cloud: str
    region: str
    accelerators: str
    spot: bool
    usd_per_hour: float


class Server(TypedDict):
    """Who is asked for jobs, and alone knows them.

    id: a restart keeps it, and another has another, at the same address too. place: where people come to it.
    """

    id: str
    place: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """jobs/NNNN.json: the intent to submit, then what the executor answered; what became of it lies beside it.

    job: what the job is called, by us and by its executor; its attempts bear it. None: written by an older
    version before it submitted. ticket: of the request to submit it. handle: the executor's own id.
    cancelled: it was, or it was over before its first attempt; reason says why. Read from jobs/NNNN.cancelled;
    older versions wrote them here.
    target: the compute target's name. changes: what this job is to change of the run's config, as in
    AttemptRecord. bundle: sha256 of the code that travelled. rates: where it may run, dearest last, with all
    nodes together. hours, usd: what was expected; None if it could not be. controller: the machine that its
    executor pays to watch over it; None if none. server: who was asked for it, and alone knows it; None: not
    known. sweep_since: the month (2026-11) before which nothing was paid of the run's sweep; None: not known.
    env: variables that Hydra sets for it (`hydra.job.env_set`), no secrets among them; None: not known.
    """

    format: ClassVar[int] = 1

    run: str
    number: int
    executor: str
    created: datetime
    job: str | None
    cancelled: bool
    ticket: str | None = None
    handle: str | None = None
    reason: str = ""
    target: str = ""
    changes: dict[str, Any] | None = None
    bundle: str | None = None
    rates: list[Rate] = field(default_factory=list)
    hours: float | None = None
    usd: float | None = None
    controller: Rate | None = None
    server: Server | None = None
    sweep_since: str | None = None
    env: dict[str, str] | None = None

    @property
    def told(self) -> str:
        """What people call it: the number that its executor's own words take, else our name; "" without any."""
        return (self.handle or "").rpartition("/")[2] or self.job or ""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """attempts/NNNNNN.json: the fence. One process life of a run, and where it is lived.

    process_started: start of process `pid` as its kernel counts it (any unit, only compared).
    boot_id: one boot of one machine and one table of processes: equal ids share their pids.
    job: the executor's id of the job that started it, as in JobRecord.
    changes: what this and earlier resumes changed against the run's config: values by dotted key or group.
    place: the machine that is paid for, and its price; None if nothing is paid.
    took_over: whether the attempt before it still lived, as far as was known, and was told to give way.
    """

    format: ClassVar[int] = 1

    run: str
    attempt: int
    started: datetime
    host: str
    pid: int
    process_started: float | None
    boot_id: str | None
    job: str | None
    numerics: dict[str, Any]
    versions: dict[str, Any]
    changes: dict[str, Any] | None = None
    place: Rate | None = None
    took_over: bool = False


@dataclass(frozen=True, slots=True)
class EndRecord:
    """attempts/NNNNNN.end.json: how an attempt ended. `step` is the last step that was done.

    saved: the step of the run's newest checkpoint then; None if it has none. again: the next attempt began at
    once, with smaller parts.
    """

    format: ClassVar[int] = 1

    run: str
    attempt: int
    ended: datetime
    exit_code: int
    step: int
    reason: str
    error: Failure | None
    code: CodeHash | None
    saved: int | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """result.json: what the task returned (any JSON value). Written before the end record."""

    format: ClassVar[int] = 1

    run: str
    attempt: int
    step: int
    ended: datetime
    result: Any
    pruned: bool = False


@dataclass(frozen=True, slots=True)
class SpendingRecord:
    """budget/<yyyy-mm>/<run>-<attempt>.json: what an attempt has cost in a month; written again while it lives.

    attempt: 0 for the share that a run has of a controller, which is reckoned and never written. sweep: its id.
    target: the compute target's name. since, until: the paid time in that month so far.
    """

    format: ClassVar[int] = 1

    run: str
    attempt: int
    user: str
    experiment: str | None
    sweep: str | None
    target: str
    place: Rate
    since: datetime
    until: datetime
    usd: float


Record = RunRecord | JobRecord | AttemptRecord | EndRecord | ResultRecord | SpendingRecord
AnyRecord = TypeVar(
    "AnyRecord", RunRecord, JobRecord, AttemptRecord, EndRecord, ResultRecord, SpendingRecord
)

_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    datetime: "a time",
    list: "a list",
    dict: "an object",
}


def encode(record: Record) -> bytes:
    """The record's bytes. Raises TypeError if it holds a value that JSON cannot."""
    tree = {item.name: _plain(getattr(record, item.name)) for item in fields(record)}
    tree = {"format": record.format, **tree}
    try:
        return (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # half a surrogate pair: a file name that is not UTF-8, say
        return (json.dumps(tree, indent=2) + "\n").encode()


def _plain(value: object) -> object:
    return isoformat(value) if isinstance(value, datetime) else value


def decode(cls: type[AnyRecord], data: bytes, source: str) -> AnyRecord:
    """The inverse of `encode`. `source` is the file's name, for messages.

    Raises NewerFormat, or Damaged if it is no record, lacks a field or holds what that cannot.
    """
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{source}: damaged, not JSON ({error})") from None
    try:
        tree = _read("the record", dict, tree)
        written = _field("format", int, tree)
        if written > cls.format:
            raise NewerFormat(
                f"{source}: has format {written}, this crown_exp reads up to {cls.format}; "
                "upgrade crown_exp"
            )
        return cls(**{name: _field(name, hint, tree) for name, hint in _hints(cls, tree)})
    except (ValueError, OverflowError) as error:
        raise Damaged(f"{source}: damaged, {error}") from None


def _hints(cls: Any, tree: dict[str, Any]) -> list[tuple[str, Any]]:
    """(name, type) of every field to read: those in the tree and those without a default."""
    hints = _resolved(cls)
    return [
        (item.name, hints[item.name])
        for item in fields(cls)
        if item.name in tree or (item.default is MISSING and item.default_factory is MISSING)
    ]


@cache
def _resolved(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def _field(name: str, hint: Any, tree: dict[str, Any], within: str = "") -> Any:
    if name not in tree:
        raise ValueError(f"{within}{name} is missing")
    return _read(f"{within}{name}", hint, tree[name])


def _read(where: str, hint: Any, value: Any) -> Any:
    """`value` as what `hint` says. Raises ValueError naming `where` if it is something else."""
    if hint is Any:
        return value
    if get_origin(hint) in (Union, UnionType):  # always `X | None`
        (hint,) = (option for option in get_args(hint) if option is not NoneType)
        return None if value is None else _read(where, hint, value)
    if is_typeddict(hint):
        _expect(where, dict, value)
        return {key: _field(key, of, value, f"{where}.") for key, of in _resolved(hint).items()}
    if get_origin(hint) is list:
        (of,) = get_args(hint)
        return [
            _read(f"{where}[{n}]", of, item) for n, item in enumerate(_expect(where, list, value))
        ]
    if hint is datetime:
        return _time(where, value)
    if hint is float and type(value) is int:
        return float(value)
    return _expect(where, get_origin(hint) or hint, value)


def _expect(where: str, kind: type, value: Any) -> Any:
    # type(), as bool is an int.
    if type(value) is not kind:
        found = _NAMES[type(value)] if isinstance(value, list | dict) else json.dumps(value)[:40]
        raise ValueError(f"{where} must be {_NAMES[kind]}, not {found}")
    return value


def _time(where: str, value: Any) -> datetime:
    try:
        return parse_iso(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where} must be {_NAMES[datetime]} in ISO 8601 with a zone") from None
