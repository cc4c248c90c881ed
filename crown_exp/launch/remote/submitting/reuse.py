"""Which runs of a command are there already: an equal run that was made before, and what becomes of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from crown_exp.compute.base import OVER, JobState, Listed
from crown_exp.folder import RUNS, Facts, Here, JobRecord, RunRecord, died_here, state
from crown_exp.folder.paths import is_id
from crown_exp.launch.codechange import code_change
from crown_exp.launch.equal import asked
from crown_exp.launch.recorded import AT_ONCE, if_readable, read_runs
from crown_exp.launch.remote.base import Earlier, Fate
from crown_exp.launch.remote.cancelling import is_pending
from crown_exp.launch.remote.servers import AnotherServer, unknown_here
from crown_exp.launch.remote.watching.ending import says_over
from crown_exp.launch.session import Session
from crown_exp.launch.submit import Order, signature_of
from crown_exp.outcome import FINAL, State
from crown_exp.storage import BlobStore
from crown_exp.storage.machine import here
from crown_exp.storage.parallel import each
from crown_exp.storage.runs import read_facts
from crown_exp.tracking.run_log import to_stderr

if TYPE_CHECKING:
    from sqlite3 import Connection

MOST_READ = 2000
"""So many runs that the registry does not know are looked at, the newest; those it knows cost nothing."""

PAST = 3
"""So many equal runs are looked at beyond those that the command asks for."""

KNOWN = "SELECT id, signature, compute FROM runs WHERE store = ?"

DONE = (State.COMPLETED, State.PRUNED)


class Key(NamedTuple):
    """What makes a run equal to an order."""

    signature: str
    compute: str


@dataclass
class Equal:
    """A run that was made before. found: its state; job: its newest job, if that may live.

    unknown_here: why that cannot be asked after from here; "" if it can.
    """

    facts: Facts
    found: State
    job: JobRecord | None = None
    job_state: JobState | None = None
    taken: bool = False
    unknown_here: str = ""

    @property
    def lives(self) -> bool:
        """Whether its job does. One that its executor does not know lives while its attempt beats."""
        if self.job_state is JobState.GONE or self.unknown_here:
            return self.found is State.RUNNING
        return self.job_state is not None and self.job_state not in OVER

    @property
    def is_anothers(self) -> bool:
        """Whether somebody sees it through by hand, here or elsewhere: a job would be refused."""
        return self.found is State.RUNNING and not is_of_a_job(self.facts)

    def refuse_if_unknown_here(self) -> None:
        """Raises AnotherServer if its job may live where it is not known here, and is not seen to."""
        if self.unknown_here and not self.lives:
            run = self.facts.run.id
            raise AnotherServer(
                f"{run} may go on elsewhere, so no second job is made: {self.unknown_here}"
            )

    @property
    def is_untouched(self) -> bool:
        """Whether no attempt was made and no job can come any more: nothing would be lost with it."""
        over = self.job is None or self.job_state in OVER
        return over and not self.facts.attempts

    def learn(self, job: JobRecord, listed: Listed | None, *, pending: bool) -> None:
        """Where its job is whose handle nobody noted: listed by its executor, on its way, or nowhere.

        pending: whether a request for it was noted, so lately that its answer may be on its way.
        """
        if listed is not None:
            jobs = [
                replace(it, handle=listed.handle) if it is job else it for it in self.facts.jobs
            ]
            self.facts, self.job_state = replace(self.facts, jobs=jobs), listed.status.state
        elif pending:
            self.job_state = JobState.WAITING


def earlier_of(session: Session, orders: Sequence[Order]) -> list[Earlier | None]:
    """The equal run of each order for elsewhere, and its fate; None where a new one is to be made.

    Of equal runs the newest counts: one that has not ended is gone on with, by one order; one that is
    completed is reused in a sweep, if `reuse` allows; one that failed is made anew, as is what is older.
    A run that the store got a moment ago is found. Raises StoreError; ExecutorError if a job that may live
    cannot be asked for; AnotherServer.
    """
    keys = [equal_key(session, order) for order in orders]
    wanted = set(filter(None, keys))
    if not wanted:
        return [None] * len(orders)
    records = session.portal.call(equal_runs, session.blobs, wanted, known_here(session))
    most = {key: keys.count(key) + PAST for key in wanted}
    chosen = {key: found[: most[key]] for key, found in records.items()}
    equals = session.portal.call(with_facts, session.blobs, chosen)
    ask_for_jobs(session, [one for found in equals.values() for one in found])
    return [
        None if key is None else taken(session, order, equals.get(key, ()))
        for order, key in zip(orders, keys, strict=True)
    ]


def equal_key(session: Session, order: Order) -> Key | None:
    """What an equal run must have; None if none can be, or is wanted."""
    config = order.composition.config
    compute = config["compute"]
    wants_none = config["debug"] or config["resume"] or config["reuse"] == "never"
    if compute["executor"] == "local" or wants_none:
        return None
    signature = signature_of(session.settled(order))
    return None if signature is None else Key(signature, compute["name"])


# --- what there is --------------------------------------------------------------------------------------


def known_here(session: Session) -> Mapping[str, tuple[str, str]]:
    """Signature and target of the store's runs, by id, of those that the registry knows: they never change."""
    store = session.blobs.url

    def ask(connection: Connection) -> dict[str, tuple[str, str]]:
        return {row[0]: (row[1], row[2]) for row in connection.execute(KNOWN, (store,))}

    return (session.database and asked(session.database, ask)) or {}


async def equal_runs(
    blobs: BlobStore, wanted: Collection[Key], known: Mapping[str, tuple[str, str]]
) -> dict[Key, list[RunRecord]]:
    """The runs with these keys, the newest first. known: signature and target of runs, by id."""
    names = sorted(filter(is_id, await blobs.folders(RUNS)), reverse=True)
    unknown = [name for name in names if name not in known][:MOST_READ]
    likely = [name for name in names if name in known and Key(*known[name]) in wanted]
    found: dict[Key, list[RunRecord]] = {}
    for record in await read_runs(blobs, [*unknown, *likely]):
        key = Key(record.signature, record.compute)
        if key in wanted:
            found.setdefault(key, []).append(record)
    for records in found.values():
        records.sort(key=lambda record: (record.created, record.id), reverse=True)
    return found


async def with_facts(
    blobs: BlobStore, records: Mapping[Key, Sequence[RunRecord]]
) -> dict[Key, list[Equal]]:
    """What is known of these runs, without those that cannot be understood."""
    found: dict[str, Equal] = {}
    now, machine = await blobs.now(), here()

    async def read(record: RunRecord) -> None:
        facts = await if_readable(read_facts(blobs, record.id))
        if facts is not None:
            found[record.id] = judged(facts, seen_state(facts, now, machine))

    await each(read, [one for many in records.values() for one in many], at_once=AT_ONCE)
    return {
        key: [found[record.id] for record in many if record.id in found]
        for key, many in records.items()
    }


def seen_state(facts: Facts, now: datetime, machine: Here) -> State:
    """Its state, as this machine sees it: a process of ours that is gone is lost at once.

    One whose attempt is about to write its end still runs: only the end tells what code it imported.
    """
    found = state(facts, now)
    if found in DONE:
        before = state(replace(facts, result=None), now)
        return before if before is State.RUNNING and not died_here(facts, machine) else found
    return State.LOST if died_here(facts, machine) else found


def judged(facts: Facts, found: State) -> Equal:
    """A run with its newest job, if that may live: a cancelled one does while its attempt beats."""
    job = max(facts.jobs, key=lambda record: record.number, default=None)
    if job is None or job.job is None or found in FINAL:
        return Equal(facts, found)
    attempt = facts.newest_attempt
    beats = found is State.RUNNING and attempt is not None and attempt.job == job.job
    return Equal(facts, found, None if job.cancelled and not beats else job)


def is_of_a_job(facts: Facts) -> bool:
    """Whether the newest attempt is that of a job that we submitted."""
    attempt = facts.newest_attempt
    return attempt is not None and any(job.job == attempt.job for job in facts.jobs if job.job)


def ask_for_jobs(session: Session, equals: Iterable[Equal]) -> None:
    """Learn what executors say of jobs that may live: one poll for all, and a list if one has no handle.

    Of those that another server was asked for nothing is learnt but from their runs' own records.
    """
    by_executor: dict[str, list[tuple[Equal, JobRecord]]] = {}
    for one in equals:
        if one.job is not None and one.job.executor in session.executors:
            one.unknown_here = unknown_here(session.executors, one.job)
            if not one.unknown_here:
                by_executor.setdefault(one.job.executor, []).append((one, one.job))
            elif says_over(one.facts, one.job, session.portal.call(session.blobs.now)):
                one.job, one.unknown_here = None, ""
    for name, many in by_executor.items():
        polled = {job.handle: one for one, job in many if job.handle is not None}
        if polled:
            for handle, status in session.executors[name].poll(polled).items():
                polled[handle].job_state = status.state
        if len(polled) == len(many):
            continue
        listed = {job.name: job for job in session.executors[name].jobs()}
        for one, job in many:
            if job.handle is None:
                pending = job.ticket is not None and is_pending(session, job)
                one.learn(job, listed.get(str(job.job)), pending=pending)


# --- what becomes of it ---------------------------------------------------------------------------------


def taken(session: Session, order: Order, equals: Sequence[Equal]) -> Earlier | None:
    """The first of these, the newest first, that the order takes; None if it takes none.

    Raises AnotherServer.
    """
    ended = False
    for one in equals:
        if one.found in DONE:
            if order.sweep is not None and is_reused(session, order, one.facts):
                return Earlier(one.facts, Fate.DONE)
            ended = True
        elif one.found is State.FAILED:
            ended = True
        elif not (ended or one.taken or one.is_anothers):
            one.refuse_if_unknown_here()
            if is_fit(session, order, one):
                one.taken = True
                return Earlier(one.facts, Fate.RUNNING if one.lives else Fate.RESUMED)
    return None


def is_reused(session: Session, order: Order, facts: Facts) -> bool:
    """Whether a result stands for that of a new run."""
    return order.composition.config["reuse"] == "signature" or not code_change(session, facts)


def is_fit(session: Session, order: Order, one: Equal) -> bool:
    """Whether a run that has not ended may go on, although the code may have changed; that is told."""
    change = code_change(session, one.facts)
    if not change:
        return True
    if one.lives:
        to_stderr(f"warning: {one.facts.run.id} runs on with its own code: {change}")
        return True
    if one.is_untouched or order.composition.config["identity"]["code"] == "refuse":
        return False
    to_stderr(f"warning: {change}; it goes on all the same: reuse=never makes a new run")
    return True
