"""Hydra plugin: the launcher `crown`. Every job goes where its own `compute` says.

Hydra imports this module at every start of every application, so the work is in `_jobs`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class CrownLauncher(Launcher):
    """A thin adapter: Hydra's jobs become runs, their results Hydra's return values."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """What Hydra hands over before the first batch."""
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """One batch of jobs; returns when all have ended, in their order."""
        from hydra_plugins.crown_launcher._jobs import launch

        return launch(self, job_overrides, initial_job_idx)


@dataclass
class CrownLauncherConfig:
    """hydra/launcher=crown."""

    _target_: str = "hydra_plugins.crown_launcher.launcher.CrownLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="crown", node=CrownLauncherConfig, provider="crown_exp"
)
