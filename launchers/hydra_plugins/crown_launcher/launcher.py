"""Hydra plugin: the launcher `crown`. Every job goes where its own `compute` says.

Hydra imports this module at every start of every application, so the work is in `_jobs`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn


class CrownLauncher(BasicLauncher):
    """A thin adapter: Hydra's jobs become runs, their results Hydra's return values.

    In an application that is not ours it is Hydra's basic launcher.
    """

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """One batch of jobs; returns when all have ended, in their order."""
        from crown_exp.launch.invocation import current

        invocation = current()
        if invocation is None:
            return super().launch(job_overrides, initial_job_idx)
        from hydra_plugins.crown_launcher._jobs import launch

        return launch(self, invocation, job_overrides, initial_job_idx)


@dataclass
class CrownLauncherConfig:
    """hydra/launcher=crown."""

    _target_: str = "hydra_plugins.crown_launcher.launcher.CrownLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="crown", node=CrownLauncherConfig, provider="crown_exp"
)
