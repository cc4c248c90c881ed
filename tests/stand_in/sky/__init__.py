"""A stand-in for SkyPilot at the edge of its SDK: managed jobs as processes of this machine.

It replays what SkyPilot 0.14.1 was seen to do: a request's id at once, states, delays (times
$SKY_STAND_IN_SCALE, 0.01 if not set), an old process that lives on beside its replacement. Its server is a
process of its own with its state in the folder $SKY_STAND_IN. Put `tests/stand_in` on a child's PYTHONPATH.
Its clouds sell what is in `market.py`. A plain cluster is a machine with a home that is used again; it does not
stop itself.
"""

import enum
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from . import exceptions, jobs
from .clusters import down, job_status, launch, status, tail_logs
from .edge import answered, folder, reach
from .market import cost

__version__ = "0.14.1"
__all__ = [
    "ManagedJobStatus",
    "Resources",
    "Task",
    "api_status",
    "down",
    "exceptions",
    "get",
    "job_status",
    "jobs",
    "launch",
    "status",
    "tail_logs",
]


class ManagedJobStatus(enum.Enum):
    """As SkyPilot names them."""

    PENDING = "PENDING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    WINDING_DOWN = "WINDING_DOWN"
    RECOVERING = "RECOVERING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    FAILED_SETUP = "FAILED_SETUP"
    FAILED_PRECHECKS = "FAILED_PRECHECKS"
    FAILED_NO_RESOURCE = "FAILED_NO_RESOURCE"
    FAILED_CONTROLLER = "FAILED_CONTROLLER"


class JobStatus(enum.Enum):
    """Of a job on a plain cluster."""

    SETTING_UP = "SETTING_UP"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    FAILED_SETUP = "FAILED_SETUP"


class Resources:
    """Fields only: `Resources(infra=…, accelerators=…, job_recovery=…)`."""

    KNOWN = (
        "cloud", "instance_type", "cpus", "memory", "accelerators", "infra", "use_spot", "job_recovery",
        "region", "zone", "image_id", "disk_size", "disk_tier", "ports", "labels", "any_of", "autostop",
        "max_hourly_cost", "network_tier", "accelerator_args", "local_disk", "priority",
    )  # fmt: skip

    def __init__(self, **fields: Any) -> None:
        for name in fields:
            if name not in self.KNOWN:
                raise TypeError(f"Resources.__init__() got an unexpected keyword argument {name!r}")
        if fields.get("use_spot") and str(fields.get("infra", "")).startswith("slurm"):
            raise exceptions.ResourcesUnavailableError("Spot instances are not supported in Slurm")
        self.fields = fields

    def copy(self, **other: Any) -> "Resources":
        """The same with other fields."""
        return Resources(**{**self.fields, **other})

    @property
    def instance_type(self) -> Any:
        return self.fields.get("instance_type")

    @property
    def cpus(self) -> Any:
        return self.fields.get("cpus")

    @property
    def memory(self) -> Any:
        return self.fields.get("memory")

    def get_valid_regions_for_launchable(self) -> list[SimpleNamespace]:
        """Where a machine with an instance type is sold."""
        lines = self.fields["cloud"].lines(self)
        return [SimpleNamespace(name=line.region) for line in lines]

    def get_cost(self, seconds: float) -> float:
        """In US dollars, on a machine of a region."""
        return seconds / 3600 * cost(self.fields["cloud"].lines(self)[0], self.fields)


class Task:
    """What to run: texts for a shell."""

    def __init__(
        self,
        name: str | None = None,
        *,
        run: str | None = None,
        setup: str | None = None,
        envs: dict[str, str] | None = None,
        secrets: dict[str, str] | None = None,
        workdir: str | None = None,
        num_nodes: int | None = None,
    ) -> None:
        self.name, self.run, self.setup = name, run, setup
        self.envs, self.secrets = dict(envs or {}), dict(secrets or {})
        self.workdir, self.num_nodes = workdir, num_nodes or 1
        self.resources: list[Resources] = []
        if workdir is not None and not Path(workdir).is_dir():
            raise ValueError(f"Workdir must be a valid directory: {workdir}")

    def set_resources(self, resources: Any) -> "Task":
        many = isinstance(resources, (list, tuple, set))
        self.resources = list(resources) if many else [resources]
        return self


def get(request_id: str) -> Any:
    """Wait for a request; its result, or its exception."""
    while (answer := answered(request_id)) is None:
        time.sleep(0.01)
    if "error" in answer:
        told = answer["error"]
        raise getattr(exceptions, told["type"])(told["text"], *told.get("more", ()))
    result = answer["result"]
    if answer["do"] in ("launch", "up"):
        return result, _Handle()
    if answer["do"] == "queue":
        return [_record(fields) for fields in result], len(result), {}, len(result)
    if answer["do"] == "job_status":
        return {int(number): JobStatus(word) for number, word in result.items()}
    return result


class _Handle:
    def __repr__(self) -> str:
        raise NotImplementedError  # as seen in consolidation mode


def _record(fields: dict[str, Any]) -> SimpleNamespace:
    status = fields.get("status")
    return SimpleNamespace(**{**fields, "status": status and ManagedJobStatus(status)})


def api_status(
    request_ids: list[str] | None = None, all_status: bool = False, **_: Any
) -> list[SimpleNamespace]:
    """Requests that the server knows: those named, else those that are not answered yet, or all."""
    reach()
    found = {path.stem: "PENDING" for path in (folder() / "requests").glob("*.json")}
    for path in (folder() / "answers").glob("*.json") if request_ids or all_status else ():
        found[path.stem] = "FAILED" if "error" in json.loads(path.read_text()) else "SUCCEEDED"
    names = sorted(set(found) if request_ids is None else set(request_ids) & set(found))
    return [SimpleNamespace(request_id=name, status=found[name]) for name in names]
