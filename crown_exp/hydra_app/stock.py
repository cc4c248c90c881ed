"""What stock launchers (`hydra/launcher=basic`, `joblib`, `submitit_local`, …) call in their workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from crown_exp.config.check import check
from crown_exp.config.compose import COMPOSING, plain, strict, texts
from crown_exp.config.layers import make_importable
from crown_exp.config.project import find_project
from crown_exp.errors import ConfigError, CrownError, Problem, Stopped
from crown_exp.folder.records import SweepPlace
from crown_exp.launch.collect import RunFailed
from crown_exp.launch.invocation import Ended, current
from crown_exp.launch.session import open_session
from crown_exp.launch.submit import Order, sweep_id
from crown_exp.outcome import STOPS, ExitCode


def carry_out(config: DictConfig) -> Any:
    """Make one job a run, see it through in this process, return its result.

    Such a launcher composes the config by itself, from the files as they are then. Raises RunFailed if the
    run does not complete, Stopped if it was asked to stop, ConfigError if it is to run elsewhere.
    """
    from crown_exp.runner import run_attempt

    with noted():
        order = ordered(config)
        if problem := elsewhere(config, str(HydraConfig.get().runtime.choices["hydra/launcher"])):
            raise ConfigError([problem])
    project = find_project(Path.cwd())
    make_importable(project.root if project else Path.cwd())
    with open_session(project) as session:
        with noted():
            record = session.make(order)
        ending = run_attempt(
            session.portal, session.blobs, record.id,
            home=session.home, root=session.root, database=session.database,
        )  # fmt: skip
    if invocation := current():  # a launcher that stays in the process of the command
        ended = Ended(
            record.id, record.name, ending.exit_code, ending.result, ending.error,
            order.composition.overrides,
        )  # fmt: skip
        invocation.ended.append(ended)
    if ending.exit_code in STOPS:
        raise Stopped(ending.error, ending.exit_code)
    if ending.exit_code != ExitCode.OK:
        raise RunFailed(f"{record.id}: {ending.error}", ending.exit_code)
    return ending.result


@contextmanager
def noted() -> Iterator[None]:
    """A run that cannot be made counts among those of the command: its launcher keeps the error to itself."""
    try:
        yield
    except CrownError as error:
        if invocation := current():
            typed = tuple(map(strict, texts(HydraConfig.get().overrides.task)))
            why = str(error).partition("\n")[0]
            ended = Ended("", " ".join(typed), error.exit_code, None, why, typed)
            invocation.ended.append(ended)
        raise


def ordered(config: DictConfig) -> Order:
    """The run that a job asks for. Raises ConfigError for a config that is wrong.

    What the other jobs of a sweep vary is not told here, so all overrides but the preset count as swept.
    """
    hydra = HydraConfig.get()
    composition, unresolved = plain(config, hydra)
    groups = [name for name in composition.choices if "/" not in name]
    checked = check(composition, groups, unresolved)
    if hydra.mode != RunMode.MULTIRUN:
        return Order(composition, checked)
    swept = [item for item in composition.overrides if "experiment=" not in item]
    place = SweepPlace(
        id=sweep_id(composition, checked, swept), number=int(hydra.job.num or 0) + 1, of=None
    )
    return Order(composition, checked, swept, place)


def elsewhere(config: DictConfig, launcher: str) -> Problem | None:
    """The problem of a run that is to happen elsewhere: only our own launcher can send it there."""
    if OmegaConf.select(config, "compute.executor", default="local") == "local":
        return None
    what = f"is elsewhere, where hydra/launcher={launcher} sends nothing; leave hydra/launcher out"
    return Problem(f"compute={OmegaConf.select(config, 'compute.name')}", what)


def refuse_alone(config: DictConfig) -> None:
    """Raises ConfigError for the only run of a command if such a launcher cannot carry it out."""
    if config.get("resume"):
        raise ConfigError.of("resume", "needs hydra/launcher=crown, the default")
    if problem := elsewhere(config, str(config.hydra.runtime.choices["hydra/launcher"])):
        raise ConfigError([problem])


def refuse_elsewhere(
    loader: ConfigLoader, config: DictConfig, jobs: Iterable[Sequence[str]]
) -> None:
    """Raises ConfigError if any job of a sweep is to run elsewhere, before the first of them starts.

    Only what can choose a target is composed: the values of other keys are left out. What does not compose
    is told by the launcher.
    """
    asked = dict.fromkeys(tuple(item for item in job if chooses(item)) for job in jobs)
    problems: list[Problem] = []
    for overrides in asked:
        with suppress(*COMPOSING):
            made = loader.load_sweep_config(config, list(overrides))
            launcher = str(made.hydra.runtime.choices["hydra/launcher"])
            if problem := elsewhere(made, launcher):
                problems.append(problem)
    if problems:
        raise ConfigError(problems)


def chooses(override: str) -> bool:
    """Whether an override can choose where a run happens: a group's option, or a key of `compute`."""
    key = override.partition("=")[0].lstrip("+~")
    return "." not in key or key.startswith("compute.")
