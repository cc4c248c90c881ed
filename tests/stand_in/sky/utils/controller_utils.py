"""The machine that watches over managed jobs: one is started where the folder has a file `controller`."""

import enum
from typing import Any

from .. import Resources  # noqa: TID252 - the package has two names
from ..edge import folder  # noqa: TID252


class Controllers(enum.Enum):
    """As SkyPilot names them."""

    JOBS_CONTROLLER = "jobs"


def is_jobs_consolidation_mode() -> bool:
    return not (folder() / "controller").exists()


def get_controller_resources(which: Controllers, _: list[Any]) -> set[Any]:
    return {Resources(cpus="4+", memory="16+")}
