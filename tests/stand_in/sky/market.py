"""What the clouds of the stand-in sell: a few lines of a catalogue, with the prices of a day in 2026."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from .edge import folder


@dataclass(frozen=True)
class Machine:
    """A line of the catalogue. usd, spot_usd: an hour; None: not sold so."""

    cloud: str
    region: str
    instance_type: str
    accelerator: str
    count: int
    cpus: int
    memory: int
    usd: float
    spot_usd: float | None


CATALOGUE = (
    Machine("aws", "us-east-1", "m6i.large", "", 0, 2, 8, 0.10, 0.04),
    Machine("aws", "us-east-1", "m6i.2xlarge", "", 0, 8, 32, 0.38, 0.15),
    Machine("aws", "us-east-1", "g6.4xlarge", "L4", 1, 16, 64, 1.32, 0.45),
    Machine("aws", "us-east-1", "p4d.24xlarge", "A100", 8, 96, 1152, 32.77, 9.83),
    Machine("gcp", "us-central1", "n2-standard-8", "", 0, 8, 32, 0.39, 0.09),
    Machine("gcp", "us-central1", "g2-standard-4", "L4", 1, 4, 16, 0.71, 0.28),
    Machine("gcp", "us-central1", "a2-highgpu-1g", "A100", 1, 12, 85, 3.67, 1.15),
    Machine("gcp", "europe-west4", "a2-highgpu-1g", "A100", 1, 12, 85, 3.75, 1.25),
    Machine("gcp", "us-central1", "a2-ultragpu-1g", "A100-80GB", 1, 12, 170, 5.03, 2.10),
    Machine("gcp", "us-central1", "a3-highgpu-1g", "H100", 1, 26, 234, 11.06, 3.69),
)


class Cloud:
    """A cloud, as SkyPilot's own classes are asked."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name.upper()

    def get_feasible_launchable_resources(self, wanted: Any, num_nodes: int = 1) -> SimpleNamespace:
        """The machines that fit, each once whatever its regions."""
        kinds = {line.instance_type for line in self.lines(wanted)}
        cheapest = sorted(kinds, key=lambda kind: self.price(kind, wanted))
        return SimpleNamespace(
            resources_list=[wanted.copy(instance_type=kind) for kind in cheapest]
        )

    def lines(self, wanted: Any) -> list[Machine]:
        """Those of the catalogue that are asked for."""
        return [line for line in CATALOGUE if line.cloud == self.name and fits(line, wanted.fields)]

    def price(self, kind: str, wanted: Any) -> float:
        return min(cost(it, wanted.fields) for it in self.lines(wanted) if it.instance_type == kind)


def fits(line: Machine, fields: dict[str, Any]) -> bool:
    """Whether a machine is what is asked for."""
    name, _, count = str(fields.get("accelerators") or "").partition(":")
    return (
        line.accelerator.lower() == name.lower()
        and (not name or line.count == int(count or 1))
        and at_least(line.cpus, fields.get("cpus"))
        and at_least(line.memory, fields.get("memory"))
        and not (fields.get("use_spot") and line.spot_usd is None)
        and fields.get("instance_type") in (None, line.instance_type)
        and fields.get("region") in (None, line.region)
    )


def placed(resources: list[dict[str, Any]]) -> tuple[str, str]:
    """Cloud and region of the machine that SkyPilot takes first: the cheapest of the first that is sold."""
    clouds = [cloud.name for cloud in enabled()]
    for fields in resources:
        cloud, _, region = str(fields.get("infra") or "").partition("/")
        sold = [
            line
            for line in CATALOGUE
            if line.cloud in clouds
            and fits(line, fields)
            and cloud in ("", "*", line.cloud)
            and region.partition("/")[0] in ("", "*", line.region)
        ]
        if sold:
            first = min(sold, key=lambda line: cost(line, fields))
            return first.cloud, first.region
    return "stand-in", "here"


def at_least(there: int, asked: Any) -> bool:
    """Whether `8+` (or more) is there."""
    return asked is None or there >= float(str(asked).rstrip("+"))


def cost(line: Machine, fields: dict[str, Any]) -> float:
    """An hour of it, in US dollars."""
    return (line.spot_usd or 0.0) if fields.get("use_spot") else line.usd


def enabled() -> list[Cloud]:
    """What `sky check` found usable: a line each in the folder's `enabled`, by default both."""
    path = folder() / "enabled"
    names = path.read_text().split() if path.exists() else ["aws", "gcp"]
    return [Cloud(name) for name in names]
