"""What a run's folder says, beside its metrics, as the rows of the tables. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crown_exp.folder import EndRecord, Facts
from crown_exp.outcome import ExitCode
from crown_exp.registry.base import FileInfo

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is read of a folder, beside its log.

    config: None if it cannot be read. size: bytes of everything in the folder. mark: as in the table.
    """

    store: str
    facts: Facts
    config: Mapping[str, Any] | None
    tags: Sequence[str]
    note: str
    files: Sequence[FileInfo]
    size: int
    mark: str


def run_row(found: Findings, logged: int) -> Row:
    """The row in `runs`. logged: the last step of which there are metrics; 0 without any."""
    run, sweep = found.facts.run, found.facts.run.sweep
    return {
        "id": run.id,
        "tail": run.id.partition("-")[2],
        "store": found.store,
        "name": run.name,
        "experiment": run.experiment,
        "user": run.user,
        "task": run.task,
        "signature": run.signature,
        "compute": run.compute,
        "seed": max(-(2**63), min(run.seed, 2**63 - 1)),
        "created": run.created,
        "overrides": run.overrides,
        "bound": run.bound,
        "composed_tags": run.tags,
        "sweep_id": sweep and sweep["id"],
        "sweep_number": sweep and sweep["number"],
        "sweep_of": sweep and sweep["of"],
        "code": run.code,
        "lineage": run.lineage,
        "note": found.note,
        "bytes": found.size,
        "mark": found.mark,
        **life(found.facts, logged),
    }


def life(facts: Facts, logged: int) -> Row:
    """What attempts and result say of the run: the columns from `jobs` to `result`."""
    result = facts.result
    newest = max((attempt.attempt for attempt in facts.attempts), default=0)
    ended = [end for end in facts.ends if end.attempt >= newest]
    end = deciding_end(facts.ends) if ended else None
    return {
        "jobs": len(facts.jobs),
        "attempt": newest,
        "started": min((attempt.started for attempt in facts.attempts), default=None),
        "ended": result.ended if result else end and end.ended,
        "exit_code": end and end.exit_code,
        "reason": end and end.reason,
        "last_beat": facts.last_beat,
        "step": result.step if result else end.step if end else logged or last_step(facts.ends),
        "result_attempt": result and result.attempt,
        "pruned": result and result.pruned,
        "result": result and result.result,
    }


def deciding_end(ends: Collection[EndRecord]) -> EndRecord | None:
    """The newest end, of those that are not superseded if there are such, as `folder.state` has it."""
    return max(
        ends, key=lambda end: (end.exit_code != ExitCode.SUPERSEDED, end.attempt), default=None
    )


def last_step(ends: Collection[EndRecord]) -> int:
    """The furthest step that an attempt ended at."""
    return max((end.step for end in ends), default=0)


def attempt_rows(facts: Facts) -> Iterator[Row]:
    """A row for each attempt, with how it ended if it did."""
    begun = {attempt.attempt: attempt for attempt in facts.attempts}
    over = {end.attempt: end for end in facts.ends}
    for number in sorted(begun.keys() | over.keys()):
        attempt, end = begun.get(number), over.get(number)
        yield {
            "run_id": facts.run.id,
            "attempt": number,
            "started": attempt and attempt.started,
            "host": attempt and attempt.host,
            "pid": attempt and attempt.pid,
            "process_started": attempt and attempt.process_started,
            "boot_id": attempt and attempt.boot_id,
            "job": attempt and attempt.job,
            "numerics": attempt and attempt.numerics,
            "versions": attempt and attempt.versions,
            "ended": end and end.ended,
            "exit_code": end and end.exit_code,
            "step": end and end.step,
            "reason": end and end.reason,
            "error": end and end.error,
            "code_hash": end and end.code and end.code["hash"],
            "changes": attempt and attempt.changes,
            "place": attempt and attempt.place,
            "saved": end and end.saved,
            "again": end and end.again,
        }


def job_rows(facts: Facts) -> Iterator[Row]:
    """A row for each job."""
    for job in facts.jobs:
        yield {
            "run_id": facts.run.id,
            "number": job.number,
            "executor": job.executor,
            "created": job.created,
            "job": job.job,
            "cancelled": job.cancelled,
            "ticket": job.ticket,
            "handle": job.handle,
            "reason": job.reason,
            "target": job.target,
            "changes": job.changes,
            "bundle": job.bundle,
            "rates": job.rates,
            "hours": job.hours,
            "usd": job.usd,
            "controller": job.controller,
        }


def file_rows(run_id: str, files: Sequence[FileInfo]) -> Iterator[Row]:
    """A row for each file."""
    for file in files:
        yield {
            "run_id": run_id,
            "path": file.path,
            "step": file.step,
            "bytes": file.bytes,
            "kind": file.kind,
        }
