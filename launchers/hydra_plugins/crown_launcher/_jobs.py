"""What the launcher `crown` does with a batch of jobs: check them all, then run each where its config says."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, env_override, setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict

from crown_exp.compute.executors.local import start_process
from crown_exp.config.compose import COMPOSING, texts
from crown_exp.config.diagnose import diagnose, examined
from crown_exp.errors import ConfigError, CrownError, Problem
from crown_exp.folder import RunRecord
from crown_exp.launch.awake import awake
from crown_exp.launch.collect import RunFailed, collect
from crown_exp.launch.equal import equal_run
from crown_exp.launch.fitness import approve_shared, is_lost
from crown_exp.launch.invocation import Ended, Invocation
from crown_exp.launch.resuming import Resumption, resumed_from
from crown_exp.launch.session import Session, for_debugging, open_session
from crown_exp.launch.submit import NotMade, Order, sweep_id
from crown_exp.outcome import ExitCode
from crown_exp.runner import run_attempt

if TYPE_CHECKING:
    from hydra_plugins.crown_launcher.launcher import CrownLauncher


def launch(
    launcher: CrownLauncher,
    invocation: Invocation,
    job_overrides: Sequence[Sequence[str]],
    first: int,
) -> list[JobReturn]:
    """One batch, in order. Nothing starts if any job's config is wrong."""
    setup_globals()
    batch = Batch(launcher, invocation, first)
    jobs = [batch.compose(item, first + number) for number, item in enumerate(job_overrides)]
    orders = batch.orders(jobs, job_overrides)
    is_sweep = any(order.sweep for order in orders)
    debug = any(order.composition.config["debug"] for order in orders)
    if debug and is_sweep:
        raise ConfigError.of("debug=true", "is for one run; leave out -m")
    runs = [str(run) for order in orders if (run := order.composition.config["resume"])]
    if invocation.multirun and runs:
        raise ConfigError.of("resume", "goes on with one run; leave out -m")
    with (
        open_session(invocation.project, debug=debug, run="".join(runs[:1])) as session,
        invocation.attending() if is_sweep else nullcontext(),
    ):
        if is_sweep:
            approve_shared(session.blobs)
        try:
            session.approve(orders)
        except ConfigError as error:
            if invocation.planning:  # what it would cost is worth knowing, too
                invocation.refused = tuple(str(error).splitlines())
                with suppress(CrownError):
                    batch.sent(session, jobs, orders)
            raise
        if invocation.planning or any(order.is_elsewhere for order in orders):
            return batch.sent(session, jobs, orders)
        return list(batch.local(session, jobs, orders).values())


class Batch:
    """Jobs that a sweeper hands over together; `first` is the number of the first, from 0."""

    def __init__(self, launcher: CrownLauncher, invocation: Invocation, first: int) -> None:
        assert launcher.hydra_context and launcher.config and launcher.task_function
        self.context, self.config = launcher.hydra_context, launcher.config
        self.task_function = launcher.task_function
        self.loader: Any = self.context.config_loader
        self.invocation, self.first = invocation, first
        parsed = OverridesParser.create().parse_overrides(texts(self.config.hydra.overrides.task))
        self.fixed = {item.get_key_element() for item in parsed if not item.is_sweep_override()}

    def compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The config of one job, as stock launchers compose it. Raises ConfigError."""
        if not self.invocation.multirun:
            cfg = self.config  # the only job: the command's config is its own
        else:
            try:
                cfg = self.loader.load_sweep_config(self.config, list(overrides))
            except COMPOSING as error:
                typed, name = self.typed(overrides), self.config.hydra.job.config_name
                raise diagnose(self.loader, typed, name, error) from error
        with open_dict(cfg.hydra.job):
            cfg.hydra.job.id, cfg.hydra.job.num = str(number), number
        return cfg

    def typed(self, overrides: Sequence[str]) -> list[str]:
        """All overrides of one job, those of hydra.* too."""
        return [*texts(self.config.hydra.overrides.hydra), *overrides]

    def orders(
        self, jobs: Sequence[DictConfig], job_overrides: Sequence[Sequence[str]]
    ) -> list[Order]:
        """Check every job. Raises ConfigError with the problems of all of them."""
        orders: list[Order] = []
        problems: list[Problem] = []
        for number, (job, overrides) in enumerate(zip(jobs, job_overrides, strict=True), 1):
            HydraConfig.instance().set_config(job)
            try:
                name = job.hydra.job.config_name
                composition, checked = examined(self.loader, job, self.typed(overrides), name)
            except ConfigError as error:
                problems += error.problems
                continue
            swept = [item for item in overrides if item.partition("=")[0] not in self.fixed]
            sweep = sweep_id(composition, checked, swept)
            place = self.invocation.place(sweep, self.first + number)
            env = variables_of(job)
            orders.append(Order(composition, checked, swept if place else (), place, env=env))
        if problems:
            raise ConfigError(problems)
        return orders

    def sent(
        self, session: Session, jobs: Sequence[DictConfig], orders: Sequence[Order]
    ) -> list[JobReturn]:
        """Send off what is to run elsewhere, run the rest here meanwhile; the returns of all, in order."""
        from crown_exp.launch.remote.dispatch import Away, agreed, agreed_to_resume, tell

        first = orders[0]
        if first.composition.config["resume"]:
            plan = agreed_to_resume(session, self.invocation, resumed_from(session, first))
        else:
            plan = agreed(session, self.invocation, orders)
        if self.invocation.planning:
            return []
        before = len(self.invocation.ended)
        away = Away(session, plan)
        self.invocation.asked = self.invocation.asked or away.left
        for number in away.numbers:
            self.started(jobs[number - 1])
        returns = self.local(session, jobs, orders, but=away.numbers)
        for number, ended in away.ended(self.invocation.asked).items():
            returns[number] = self.finished(jobs[number - 1], ended)
            if orders[number - 1].sweep is None:
                tell(session, ended)
        in_order = sorted(returns)
        ends = dict(zip(returns, self.invocation.ended[before:], strict=True))
        self.invocation.ended[before:] = [ends[number] for number in in_order]
        return [returns[number] for number in in_order]

    def local(
        self,
        session: Session,
        jobs: Sequence[DictConfig],
        orders: Sequence[Order],
        but: Collection[int] = (),
    ) -> dict[int, JobReturn]:
        """Run jobs here, in order, until a stop is asked for: what each returned, by its number from 1."""
        returns: dict[int, JobReturn] = {}
        for number, (job, order) in enumerate(zip(jobs, orders, strict=True), 1):
            if number in but:
                continue
            if self.invocation.stopped:
                break
            with suppress(NotMade):  # a stop was asked for: the loop ends
                returns[number] = self.run(session, job, order)
        return returns

    def run(self, session: Session, job: DictConfig, order: Order) -> JobReturn:
        """Record a run and see it through: alone, here in the foreground; of many, in a fresh process."""
        HydraConfig.instance().set_config(job)
        with env_override(dict(order.env)):
            self.started(job)
            with awake():
                see_through = self.here if order.sweep is None else self.in_own_process
                ended = see_through(session, order)
            return self.finished(job, ended)

    def started(self, job: DictConfig) -> None:
        """Tell the user's callbacks that a job begins."""
        self.context.callbacks.on_job_start(config=job, task_function=self.task_function)

    def finished(self, job: DictConfig, ended: Ended) -> JobReturn:
        """Note how a job ended, and tell the user's callbacks."""
        self.invocation.ended.append(ended)
        returned = job_return(job, ended)
        self.context.callbacks.on_job_end(config=job, job_return=returned)
        return returned

    def here(self, session: Session, order: Order) -> Ended:
        """A run in this process and thread."""
        with session.announcing():
            found = self.begun(session, order)
            record = found.record
            ending = run_attempt(
                session.portal, session.blobs, record.id,
                home=session.home, root=session.root, database=session.database,
                changes=found.changes, elsewhere=session.elsewhere,
            )  # fmt: skip
        typed = order.composition.overrides
        return Ended(record.id, record.name, ending.exit_code, ending.result, ending.error, typed)

    def begun(self, session: Session, order: Order) -> Resumption:
        """The run that is ordered: a new one, or the one to go on with."""
        if order.composition.config["resume"]:
            return resumed_from(session, order)
        if not session.keeps:
            order = for_debugging(order)
        record = session.make(order)
        if session.database is not None:
            announce(record, session, session.database)
        return Resumption(record, {})

    def in_own_process(self, session: Session, order: Order) -> Ended:
        """A run in a process of its own."""
        invocation, record = self.invocation, session.make(order)
        if invocation.asked:
            typed, why = tuple(record.overrides), "it was recorded but did not begin"
            return Ended(record.id, record.name, int(invocation.asked), None, why, typed)
        status = invocation.wait_for(start_process(f"{session.blobs.url}/runs/{record.id}"))
        return session.portal.call(collect, session.blobs, record, status)


def variables_of(job: DictConfig) -> dict[str, str]:
    """The environment variables that Hydra is to set for a job."""
    return {str(name): str(value) for name, value in job.hydra.job.env_set.items()}


def announce(record: RunRecord, session: Session, database: str) -> None:
    """Tell the id of a run that is recorded, before its imports, which take a while; and of an equal one."""
    gone = " in memory: gone when this process ends" if is_lost(session.blobs) else ""
    equal = equal_run(database, record.signature, but=record.id)
    with suppress(OSError, ValueError):  # nobody reads
        sys.stderr.write(f"{record.id} recorded{gone}\n" + (f"{equal}\n" if equal else ""))
        sys.stderr.flush()


def job_return(job: DictConfig, ended: Ended) -> JobReturn:
    """How a run ended, as Hydra's sweepers read it."""
    returned = JobReturn()
    returned.overrides = texts(job.hydra.overrides.task)
    returned.hydra_cfg = OmegaConf.create({"hydra": job.hydra})
    returned.cfg = OmegaConf.masked_copy(job, [key for key in map(str, job) if key != "hydra"])
    returned.task_name = ended.name
    if ended.exit_code == ExitCode.OK:
        returned.status, returned.return_value = JobStatus.COMPLETED, ended.result
    else:
        error = RunFailed(f"{ended.run}: {ended.error}", ended.exit_code)
        returned.status, returned.return_value = JobStatus.FAILED, error
    return returned
