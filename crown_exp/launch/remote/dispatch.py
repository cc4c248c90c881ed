"""The runs of a command that are elsewhere: agreed to, sent off, watched, their ends brought back."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from shutil import get_terminal_size
from typing import Any, TextIO

from crown_exp.compute.base import ExecutorError
from crown_exp.config.settings import wants_colour
from crown_exp.errors import ConfigError, CrownError, Superseded
from crown_exp.folder import Facts, JobRecord, RunPaths, state
from crown_exp.launch.invocation import Ended, Invocation
from crown_exp.launch.remote.base import Earlier, Fate, Plan, Planned, Submitted
from crown_exp.launch.remote.moving import refuse, stop
from crown_exp.launch.remote.planning.approval import allow
from crown_exp.launch.remote.planning.environment import keyless_wandb, lent_keys
from crown_exp.launch.remote.planning.hiding import without_secrets
from crown_exp.launch.remote.planning.plan import make_plan
from crown_exp.launch.remote.planning.plan_json import plan_json
from crown_exp.launch.remote.planning.table import plan_lines
from crown_exp.launch.remote.servers import holding
from crown_exp.launch.remote.submitting.accepting import accepted
from crown_exp.launch.remote.submitting.jobs import Prepared
from crown_exp.launch.remote.submitting.reuse import ask_for_jobs, earlier_of, judged
from crown_exp.launch.remote.submitting.submission import ask_all, recorded
from crown_exp.launch.remote.watching.ending import ended
from crown_exp.launch.remote.watching.leaving import AGAIN, asker, see_through
from crown_exp.launch.remote.watching.watch import Watch
from crown_exp.launch.resuming import Resumption
from crown_exp.launch.session import Session
from crown_exp.launch.submit import Order
from crown_exp.launch.summary import results, state_of
from crown_exp.outcome import ExitCode, State
from crown_exp.storage.machine import here
from crown_exp.storage.runs import held_by, read_facts
from crown_exp.tracking.run_log import to_stderr

WAITING = (State.QUEUED, State.PREEMPTED, State.LOST)
"""States from which a job goes on by itself."""

RESUMABLE = (State.STOPPED, State.CAPPED, State.PREEMPTED, State.LOST)


def agreed(session: Session, invocation: Invocation, orders: Sequence[Order]) -> Plan | None:
    """What a command is to do, once the user has seen it; None if all of it is here and no plan was asked for.

    Raises as `allow`; ExecutorError, StoreError.
    """
    if not invocation.planning and not any(order.is_elsewhere for order in orders):
        return None
    return seen(session, invocation, make_plan(session, orders, earlier_of(session, orders)))


def agreed_to_resume(session: Session, invocation: Invocation, found: Resumption) -> Plan | None:
    """As `agreed`, for a run to go on with; None too if it is over, which is told without a job."""
    if found.order is None or found.facts is None:
        if invocation.planning:
            if invocation.as_json:
                write(plan_json(Plan(())))
            stream = sys.stderr if invocation.as_json else sys.stdout
            stream.write(f"nothing: {found.record.id} is over already\n")
        return None
    if not invocation.planning and not found.is_elsewhere:
        refuse_two_places(session, found)
        return None
    earlier = going_on(session, found.facts)
    plan = make_plan(session, [found.order], [earlier])
    (run,) = plan.runs
    return seen(session, invocation, replace(plan, runs=(replace(run, changes=found.changes),)))


def refuse_two_places(session: Session, found: Resumption) -> None:
    """Raises ConfigError for a run that is to go on here while a job elsewhere is about to go on with it.

    One that runs is left to its attempts, of which one holds the run. A job whose executor does not answer is
    told of: should it go on, it finds that the run is held.
    """
    facts = found.facts
    if facts is None or found.order is None:
        return
    now = state(facts, session.portal.call(session.blobs.now))
    if now not in WAITING or (job := judged(facts, now).job) is None:
        return
    where = f"job {job.told} on {job.target or job.executor}"
    try:
        lives = going_on(session, facts).fate is Fate.RUNNING
    except ExecutorError as error:
        to_stderr(f"warning: it cannot be asked whether {where} will go on with it: {error}")
        return
    if lives:
        move = f"crown-exp move {found.record.id} compute=local"
        what = f"{where} is about to go on with it there: type {move}"
        raise ConfigError.of(found.record.id, f"{what}, or crown-exp cancel first")


def going_on(session: Session, facts: Facts) -> Earlier:
    """A run to go on with: watched if its job is under way.

    Raises ExecutorError, AnotherServer; Superseded if its job was cancelled and still carries it out.
    """
    now = session.portal.call(session.blobs.now)
    one = judged(facts, state(facts, now))
    ask_for_jobs(session, [one])
    one.refuse_if_unknown_here()
    if one.lives and one.job is not None and (why := held_still(session, facts, one.job)):
        raise Superseded(why)
    return Earlier(one.facts, Fate.RUNNING if one.lives else Fate.RESUMED)


def held_still(session: Session, facts: Facts, job: JobRecord) -> str:
    """Who holds a run although its job was cancelled, as while it is saved, or given up; "" if nobody does."""
    held = holding(facts, job, session.portal.call(session.blobs.now), here())
    if held is None or not job.cancelled:
        return ""
    why = (
        f"its job {job.told} on {job.target or job.executor} is cancelled ({job.reason}), and beats"
    )
    return f"{held_by(held)}; {why}: nothing was changed, type the same again when it has ended"


def seen(session: Session, invocation: Invocation, plan: Plan) -> Plan:
    """The plan, shown if it was asked for or costs money, and agreed to where that is due.

    Where only the plan was asked for, what would be refused for money or size is told, and raised. Raises
    ExecutorError if one that is to carry out a part of it does not answer: nothing is recorded yet.
    """
    found = (lent_keys(session, plan.launched), keyless_wandb(session, plan.launched))
    plan = replace(plan, warnings=tuple(filter(None, found)))
    if invocation.planning:
        wrong = hindrance(session, plan)
        lines = str(wrong).splitlines() if wrong else ()
        plan = replace(plan, refused=(*invocation.refused, *lines))
        shown = without_secrets(plan, session.secrets)
        if invocation.as_json:
            write(plan_json(shown))
        else:
            show(shown, sys.stdout)
        if wrong is not None:
            raise wrong
        return plan
    if plan.is_billed:
        show(without_secrets(plan, session.secrets), sys.stderr)
    else:
        for warning in plan.warnings:
            to_stderr(f"warning: {warning}")
    allow(plan, yes=invocation.yes, ask=asker(sys.stderr))
    for name in dict.fromkeys(run.target.executor for run in plan.launched):
        session.executors[name].jobs()
    return plan


def hindrance(session: Session, plan: Plan) -> CrownError | None:
    """Why a plan would be refused though its configs are sound: for money, or for what is to travel."""
    prepared = Prepared(session)
    try:
        allow(plan, yes=True, ask=None)
        for run in plan.launched:
            prepared.bundle(run.target)
    except CrownError as error:
        return error
    return None


def write(tree: Mapping[str, Any]) -> None:
    """One JSON text on a line of standard output, in ASCII, as every terminal and pipe takes it."""
    sys.stdout.write(f"{json.dumps(tree, allow_nan=False)}\n")
    sys.stdout.flush()


def show(plan: Plan, stream: TextIO) -> None:
    """Write a plan."""
    colour = stream.isatty() and wants_colour()
    with suppress(ValueError):  # nobody reads
        for line in plan_lines(plan, width=get_terminal_size((80, 24)).columns, colour=colour):
            stream.write(f"{line}\n")
        stream.flush()


class Away:
    """The runs of a plan that are elsewhere: their jobs are submitted and watched from a thread from now on.

    left: the stop that was asked for while jobs were being accepted; nothing is watched then. Raises as
    `submit_all`.
    """

    def __init__(self, session: Session, plan: Plan | None) -> None:
        runs = [run for run in plan.runs if not run.target.is_here] if plan else []
        prepared = Prepared(session)
        found = recorded(session, runs, prepared)
        asked = [(run, record) for run, record in found if run.fate is not Fate.DONE]
        begun = ask_all(session, asked, prepared)
        submitted, self.left = accepted(*begun) if asked else ([], None)
        self.ends = {run.number: reused(run) for run, _ in found if run.fate is Fate.DONE}
        self.watched: list[int] = []
        self.numbers = {run.number for run in runs}
        going = []
        for (run, _), job in zip(asked, submitted, strict=True):
            if job.job.cancelled:
                self.ends[run.number] = refused(session, run, job)
            else:
                self.watched.append(run.number)
                going.append(job)
        # beside the progress of a run here a table would be in the way
        alone = plan is None or len(runs) == len(plan.runs)
        self.watch = Watch(session, going, mode=None if alone else "lines")
        if going and self.left is None:
            self.watch.start()

    def ended(self, asked: ExitCode | None, again: str = AGAIN) -> dict[int, Ended]:
        """How each has ended, by its number, when all have or the user has seen enough.

        asked: the stop that the command was asked for meanwhile. again: how to come back. Raises what the watch
        could not bear.
        """
        if self.watched:
            found = see_through(self.watch, asked=asked or self.left, again=again)
            self.ends |= dict(zip(self.watched, found, strict=True))
        return self.ends


def reused(run: Planned) -> Ended:
    """A run that was completed before, by an earlier command."""
    assert run.earlier is not None and run.earlier.facts.result is not None
    result = run.earlier.facts.result.result
    return ended(run.earlier.record, ExitCode.OK, result=result)


def refused(session: Session, run: Planned, job: Submitted) -> Ended:
    """A run whose job was not taken, or was cancelled before and still carries it out."""
    earlier = run.earlier
    if earlier is not None and (why := held_still(session, earlier.facts, job.job)):
        return ended(job.record, ExitCode.SUPERSEDED, why)
    found = ended(job.record, ExitCode.RAISED, f"not submitted: {job.job.reason}")
    return replace(found, state=State.STOPPED)


def gone_on(session: Session, invocation: Invocation, found: Resumption) -> Ended | None:
    """Go on with a run elsewhere, and see it through; None if only a plan was asked for."""
    plan = agreed_to_resume(session, invocation, found)
    return None if plan is None or invocation.planning else carried_out(session, plan)


def moved(session: Session, invocation: Invocation, found: Resumption) -> Ended | None:
    """Stop a run where it is and go on with it elsewhere; None if it is to go on here, which is left to do.

    What the new place costs is agreed to before anything is stopped.
    """
    assert found.facts is not None
    refuse(session, found.facts)
    plan = None
    if found.is_elsewhere and found.order is not None:
        plan = make_plan(session, [found.order], [Earlier(found.facts, Fate.RESUMED)])
        plan = seen(session, invocation, plan)
    facts = stop(session, found.facts)
    if plan is None:
        return None
    (run,) = plan.runs
    earlier = Earlier(facts, Fate.RESUMED)
    run = replace(run, earlier=earlier, changes=found.changes)
    return carried_out(session, replace(plan, runs=(run,)))


def carried_out(session: Session, plan: Plan) -> Ended:
    """The one run of a plan, elsewhere, seen through; how it ended is told."""
    away = Away(session, plan)
    # by the word that only watches what goes on: `move` and `fork` would do it once more
    again = "".join(f"crown-exp resume {it.run.record.id}" for it in away.watch.runs)
    (found,) = away.ended(None, again).values()
    tell(session, found)
    return found


def tell(session: Session, run: Ended) -> None:
    """A few lines on how a run has ended that was elsewhere, as one that was here says it itself."""
    values = " ".join(f"{name} {value}" for name, value in results(run).items())
    found = state_now(session, run)
    word = "resume" if found in RESUMABLE else "show"
    said = [
        *([run.error] if run.error else []),
        f"{run.run} {found}{f': {values}' if values else ''}",
        f"folder  {session.blobs.url}/{RunPaths(run.run).root}",
        f"next    crown-exp {word} {run.run.partition('-')[2]}",
    ]
    to_stderr("\n".join(said))


def state_now(session: Session, run: Ended) -> State:
    """What a run does, in the word that all others use; as this command saw it end if the store is away."""
    if run.state is not None:
        return run.state
    try:
        facts = session.portal.call(read_facts, session.blobs, run.run)
        return state(facts, session.portal.call(session.blobs.now))
    except CrownError:
        return state_of(run)
