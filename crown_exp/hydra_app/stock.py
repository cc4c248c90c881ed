"""What stock launchers (`hydra/launcher=basic`, `joblib`, `submitit_local`, …) call in their workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from crown_exp.config.check import check
from crown_exp.config.compose import plain
from crown_exp.config.layers import make_importable
from crown_exp.config.project import find_project
from crown_exp.errors import Stopped
from crown_exp.folder.records import SweepPlace
from crown_exp.launch.collect import RunFailed
from crown_exp.launch.invocation import Ended, current
from crown_exp.launch.session import open_session
from crown_exp.launch.submit import Order, sweep_id
from crown_exp.outcome import STOPS, ExitCode


def carry_out(config: DictConfig) -> Any:
    """Make one job a run, see it through in this process, return its result.

    Such a launcher composes the config by itself, from the files as they are then. Raises RunFailed if the
    run does not complete, Stopped if it was asked to stop.
    """
    from crown_exp.runner import run_attempt

    order = ordered(config)
    project = find_project(Path.cwd())
    make_importable(project.root if project else Path.cwd())
    with open_session(project) as session:
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
