"""What the launcher `crown` does with a batch of jobs: check them all, then run each where its config says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict

from crown_exp.compute.executors.local import run_process
from crown_exp.config.check import check
from crown_exp.config.compose import plain
from crown_exp.config.diagnose import groups_of, place_of
from crown_exp.errors import ConfigError, CrownError, Problem
from crown_exp.launch.collect import collect
from crown_exp.launch.invocation import Ended, Invocation, current
from crown_exp.launch.session import Session, open_session
from crown_exp.launch.submit import Order, sweep_id
from crown_exp.outcome import ExitCode
from crown_exp.runner import run_attempt

if TYPE_CHECKING:
    from hydra_plugins.crown_launcher.launcher import CrownLauncher


def launch(
    launcher: CrownLauncher, job_overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """One batch, in order. Nothing starts if any job's config is wrong."""
    setup_globals()
    jobs = [compose_job(launcher, item, first + n) for n, item in enumerate(job_overrides)]
    invocation = current()
    if invocation is None or not all("executor" in (job.get("compute") or {}) for job in jobs):
        return [stock(launcher, job) for job in jobs]
    if invocation.planned is None:  # a sweeper that is not ours cannot tell
        refuse_more(invocation, first + len(jobs))
    invocation.composed = True
    orders = make_orders(launcher, jobs, job_overrides, invocation, first)
    returns = []
    with open_session(invocation.project) as session:
        for job, order in zip(jobs, orders, strict=True):
            returns.append(run_one(launcher, session, invocation, job, order))
            if invocation.stopped:
                break
    return returns


def refuse_more(invocation: Invocation, jobs: int) -> None:
    """Raises ConfigError for a second job without -m, under a sweeper that plans none."""
    if jobs > 1 and not invocation.multirun:
        raise ConfigError.of("this command", "starts more than one run: add -m to run them all")


def compose_job(launcher: CrownLauncher, overrides: Sequence[str], number: int) -> DictConfig:
    """The config of one job, as stock launchers compose it."""
    cfg = launcher.context.config_loader.load_sweep_config(launcher.config, list(overrides))
    with open_dict(cfg):
        cfg.hydra.job.id = cfg.hydra.job.num = number
    return cfg


def stock(launcher: CrownLauncher, cfg: DictConfig) -> JobReturn:
    """A job that is not ours, run as Hydra's basic launcher runs it."""
    with open_dict(cfg):
        cfg.hydra.job.id = str(cfg.hydra.job.num)
    HydraConfig.instance().set_config(cfg)
    return run_job(
        hydra_context=launcher.context,
        task_function=launcher.task_function,
        config=cfg,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def make_orders(
    launcher: CrownLauncher,
    jobs: Sequence[DictConfig],
    job_overrides: Sequence[Sequence[str]],
    invocation: Invocation,
    first: int,
) -> list[Order]:
    """Check every job. Raises ConfigError with the problems of all of them."""
    loader = launcher.context.config_loader
    groups = groups_of(loader)
    common = set.intersection(*(set(item) for item in job_overrides))
    orders: list[Order] = []
    problems: list[Problem] = []
    for number, (job, overrides) in enumerate(zip(jobs, job_overrides, strict=True), first + 1):
        HydraConfig.instance().set_config(job)
        name = job.hydra.job.config_name
        swept = [item for item in overrides if item not in common]
        try:
            composition = plain(job)
            checked = check(
                composition.config,
                groups,
                lambda key, name=name, typed=overrides: place_of(loader, name, typed, key),  # type: ignore[misc]
            )
        except ConfigError as error:
            problems += error.problems
            continue
        problems += place_problems(composition.config)
        place = invocation.place(sweep_id(composition, checked, swept), number)
        orders.append(Order(composition, checked, swept, place))
    if problems:
        raise ConfigError(problems)
    return orders


def place_problems(config: dict[str, object]) -> list[Problem]:
    """What this machine cannot do of a config's `compute` and `device`."""
    compute, device = config["compute"], config["device"]
    assert isinstance(compute, dict) and isinstance(device, dict)
    if compute["executor"] != "local":
        what = f"{compute['executor']} is not available in this version; compute=local runs here"
        return [Problem("compute.executor", what)]
    if device["kind"] in ("auto", "cpu") and device["precision"] in ("auto", "fp32"):
        return []  # every machine can; torch need not be asked
    from crown_exp.devices import choose
    from crown_exp.devices.precision import TorchProbe

    try:
        choose(device, TorchProbe())
    except ConfigError as error:
        return list(error.problems)
    return []


def run_one(
    launcher: CrownLauncher, session: Session, invocation: Invocation, job: DictConfig, order: Order
) -> JobReturn:
    """Record a run and see it through: alone, here in the foreground; of many, in a fresh process."""
    HydraConfig.instance().set_config(job)
    callbacks = launcher.context.callbacks
    callbacks.on_job_start(config=job, task_function=launcher.task_function)
    record = session.make(order)
    if order.sweep is None:
        outcome = run_attempt(session.portal, session.blobs, record.id, home=session.settings.home)
        ended = Ended(record.id, record.name, outcome.exit_code, outcome.result, outcome.error)
    else:
        status = run_process(f"{session.blobs.url}/runs/{record.id}")
        ended = session.portal.call(collect, session.blobs, record, status)
    invocation.ended.append(ended)
    returned = job_return(job, ended)
    callbacks.on_job_end(config=job, job_return=returned)
    return returned


def job_return(job: DictConfig, ended: Ended) -> JobReturn:
    """How a run ended, as Hydra's sweepers read it."""
    returned = JobReturn()
    returned.overrides = OmegaConf.to_container(job.hydra.overrides.task)  # type: ignore[assignment]
    returned.hydra_cfg = OmegaConf.create({"hydra": job.hydra})
    returned.cfg = OmegaConf.masked_copy(job, [key for key in map(str, job) if key != "hydra"])
    returned.task_name = ended.name
    if ended.exit_code == ExitCode.OK:
        returned.status, returned.return_value = JobStatus.COMPLETED, ended.result
    else:
        error = CrownError(f"{ended.run}: {ended.error}")
        returned.status, returned.return_value = JobStatus.FAILED, error
    return returned
