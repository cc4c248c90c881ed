"""Prices and enabled clouds in a home of SkyPilot 0.14.1: it plans without network and without accounts.

    python dev/skypilot_catalogue.py HOME CLOUD…     with SkyPilot's Python; clouds: aws gcp slurm

The prices are fixtures, no quotes: round numbers of a plausible order. Only these clouds have machines; the
other files are there with their header alone, for SkyPilot fetches each that is missing. It never renews one
without `.meta/<name>.md5`. A server that runs with aws or gcp in its home would try to launch there.
"""

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

SCHEMA = "v8"  # constants.CATALOG_SCHEMA_VERSION
COLUMNS = (
    "InstanceType", "AcceleratorName", "AcceleratorCount", "vCPUs", "MemoryGiB", "Price", "SpotPrice",
    "Region", "AvailabilityZone", "GpuInfo", "Arch",
)  # fmt: skip
MEMORY_GB = {"T4": 16, "L4": 24, "A10G": 24, "A100": 40, "A100-80GB": 80, "H100": 80}
REGIONS = {"aws": ("us-east-1", "us-west-2"), "gcp": ("us-central1", "europe-west4")}
# machine, accelerator, their count, vCPUs, GiB, $/h on demand, $/h spot
MACHINES = {
    "aws": (
        ("m6i.large", "", 0, 2, 8, 0.10, 0.04),
        ("m6i.2xlarge", "", 0, 8, 32, 0.38, 0.15),
        ("g4dn.xlarge", "T4", 1, 4, 16, 0.53, 0.20),
        ("g6.xlarge", "L4", 1, 4, 16, 0.80, 0.32),
        ("g5.xlarge", "A10G", 1, 4, 16, 1.01, 0.40),
        ("p4d.24xlarge", "A100", 8, 96, 1152, 28.00, 9.60),
        ("p4de.24xlarge", "A100-80GB", 8, 96, 1152, 32.00, 12.00),
        ("p5.4xlarge", "H100", 1, 16, 256, 6.90, 2.50),
        ("p5.48xlarge", "H100", 8, 192, 2048, 44.00, 20.00),
    ),
    "gcp": (
        ("n2-standard-2", "", 0, 2, 8, 0.10, 0.03),
        ("n2-standard-8", "", 0, 8, 32, 0.39, 0.10),
        ("g2-standard-4", "L4", 1, 4, 16, 0.71, 0.28),
        ("a2-highgpu-1g", "A100", 1, 12, 85, 3.67, 1.15),
        ("a2-highgpu-8g", "A100", 8, 96, 680, 29.39, 9.20),
        ("a2-ultragpu-1g", "A100-80GB", 1, 12, 170, 4.20, 1.60),
        ("a3-highgpu-1g", "H100", 1, 26, 234, 5.50, 2.40),
        ("a3-highgpu-8g", "H100", 8, 208, 1872, 32.00, 18.00),
    ),
}
HEADERS = {
    "aws/images.csv": "Tag,Region,OS,OSVersion,ImageId,CreationDate,BaseImageId",
    "aws/instance_quota_mapping.csv": "InstanceType,SpotInstanceCode,OnDemandInstanceCode",
    "gcp/images.csv": "Tag,Region,ImageId,CreationDate",
    "gcp/accelerator_quota_mapping.csv": "Accelerator,SpotInstanceCode,OnDemandInstanceCode",
}
SPELT = {"aws": "AWS", "gcp": "GCP", "slurm": "Slurm"}


def gpu_info(name: str, count: int) -> str:
    """As in the hosted catalogues: memory in MiB."""
    if not name:
        return ""
    size = MEMORY_GB[name] * 1024
    gpu = {
        "Name": name, "Manufacturer": "NVIDIA", "Count": float(count),
        "MemoryInfo": {"SizeInMiB": size},
    }  # fmt: skip
    return str({"Gpus": [gpu], "TotalGpuMemoryInMiB": size * count})


def rows(cloud: str) -> Iterator[tuple[object, ...]]:
    """Every machine in two zones of each region; the second region is 5 % dearer."""
    for dearer, region in enumerate(REGIONS[cloud]):
        for zone in ("a", "b") if cloud == "aws" else ("-a", "-b"):
            for machine, name, count, cpus, memory, price, spot in MACHINES[cloud]:
                where = (region, region + zone)
                factor = 1 + 0.05 * dearer
                if cloud == "gcp" and name:  # it bills the machine and its accelerators apart
                    parts = ((machine, "", 0, cpus, memory, 0.3), ("", name, count, "", "", 0.7))
                else:
                    parts = ((machine, name, count, cpus, memory, 1.0),)
                for what, gpu, gpus, cores, size, share in parts:
                    prices = (round(p * factor * share, 4) for p in (price, spot))
                    number = float(gpus) if gpu else ""
                    yield (
                        what, gpu, number, cores, size, *prices, *where, gpu_info(gpu, gpus), "x86_64",
                    )  # fmt: skip


def write(home: Path) -> None:
    """The catalogue's files."""
    sold = {
        name: [SPELT[c] for c in MACHINES if name in {m[1] for m in MACHINES[c]}]
        for name in MEMORY_GB
    }
    tables: dict[str, list[tuple[object, ...]]] = {
        **{f"{cloud}/vms.csv": [COLUMNS, *rows(cloud)] for cloud in MACHINES},
        **{name: [tuple(header.split(","))] for name, header in HEADERS.items()},
        "common/accelerators.csv": [
            ("AcceleratorName", "Clouds"), *((name, str(by)) for name, by in sold.items()),
        ],
        "common/metadata.csv": [("AcceleratorName", "AcceleratorMemoryGiB"), *MEMORY_GB.items()],
    }  # fmt: skip
    for name, lines in tables.items():
        path = home / ".sky" / "catalogs" / SCHEMA / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(lines)


def enable(clouds: list[str]) -> None:
    """What a `sky check` that found these clouds would have noted; the next real one takes it back."""
    from sky import check, global_user_state, skypilot_config
    from sky.clouds import CloudCapability

    workspace = skypilot_config.get_active_workspace()
    names = [SPELT[cloud] for cloud in clouds]
    global_user_state.set_enabled_clouds(names, CloudCapability.COMPUTE, workspace)
    # Else SkyPilot sees that the allowed clouds have changed, and checks them all.
    allowed = check._get_workspace_allowed_clouds(workspace)
    global_user_state.set_allowed_clouds(allowed, workspace)


def main() -> None:
    """Write into the home of the first argument, enable the others."""
    home = Path(sys.argv[1]).absolute()
    home.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(home)  # SkyPilot reads ~ when it is imported
    os.environ.setdefault("SKYPILOT_DISABLE_USAGE_COLLECTION", "1")
    write(home)
    enable(sys.argv[2:])


if __name__ == "__main__":
    main()
