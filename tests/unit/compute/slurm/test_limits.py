"""What Slurm's partitions can give, as sinfo prints it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.compute.base import Target
from crown_exp.compute.executors.slurm.limits import Machines, beyond, parse
from crown_exp.compute.executors.slurm.submission import complaint, gres, travelling

SINFO = """\
cpu*|1-00:00:00|64|256000|(null)
gpu|8:00:00|32|128000|gpu:a100:4(S:0-1),nvme:1
gpu|8:00:00|96|1024000|gpu:h100:2,gpu:h100:2
mig|30:00|8+|64000+|gpu:1g.5gb:7
old|infinite|16|64000|gpu:2
"""


def test_partitions_are_read() -> None:
    found = parse(SINFO)
    assert found[0] == Machines("cpu", True, 86400.0, 64, 256000, {})
    assert [(each.partition, each.default, each.seconds, each.cpus, each.gpus) for each in found[1:]] == [
        ("gpu", False, 28800.0, 32, {"a100": 4}),
        ("gpu", False, 28800.0, 96, {"h100": 4}),
        ("mig", False, 1800.0, 8, {"1g.5gb": 7}),
        ("old", False, math.inf, 16, {"": 2}),
    ]  # fmt: skip


@given(st.text(alphabet="gpu:|*-+,()0123456789ax\n "))
def test_nothing_that_is_printed_breaks_it(text: str) -> None:
    for machines in parse(text):
        assert machines.cpus >= 0 and machines.seconds >= 0
        beyond(Target(executor="slurm", cpus=2, accelerators=("A100:1",)), [machines])


@pytest.mark.parametrize(
    "asked",
    [
        {"cpus": 64, "memory_gb": 250, "time": 86400.0},
        {"partition": "gpu", "accelerators": ("A100:4",), "cpus": 32},
        {"partition": "gpu", "accelerators": ("H100:4",), "cpus": 96, "memory_gb": 1000},
        {"partition": "gpu", "accelerators": ("gpu:4",)},
        {"partition": "old", "accelerators": ("gpu:2",), "time": 1e9},
        {"partition": "mig", "accelerators": ("1G.5GB:7",)},
    ],
)
def test_what_a_machine_gives_may_be_asked_for(asked: dict[str, Any]) -> None:
    assert beyond(Target(executor="slurm", **asked), parse(SINFO)) == []


@pytest.mark.parametrize(
    ("asked", "where", "words"),
    [
        ({"partition": "gpus"}, "partition", "no such partition; did you mean gpu or cpu?"),
        ({"time": 86401.0}, "time", "cpu lets a job run for 24 hours at a stretch"),
        ({"partition": "mig", "time": 3600.0}, "time", "for 30 minutes at a stretch"),
        ({"cpus": 65}, "cpus", "no machine of cpu has 65 CPUs; expected at most 64"),
        ({"memory_gb": 251}, "memory_gb", "has 251 GB; expected at most 250"),
        ({"accelerators": ("A100:1",)}, "accelerators", "no machine of cpu has a GPU"),
        ({"partition": "gpu", "accelerators": ("A100:8",)}, "accelerators", "has 8 of a100"),
        (
            {"partition": "gpu", "accelerators": ("A10:1",)},
            "accelerators", "no machine of gpu has a GPU called a10; did you mean a100",
        ),
        (
            {"partition": "old", "accelerators": ("A100:1",)},
            "accelerators", "has a GPU called a100; known: gpu",
        ),
        (
            {"partition": "gpu", "accelerators": ("A100:1",), "cpus": 96},
            "partition", "no machine of gpu has that many CPUs, memory and GPUs at once",
        ),
    ],
)  # fmt: skip
def test_what_none_gives_is_told_in_one_line(asked: dict[str, Any], where: str, words: str) -> None:
    ((key, what),) = beyond(Target(executor="slurm", **asked), parse(SINFO))
    assert key == where
    assert words in what
    assert "\n" not in what


def test_a_cluster_without_a_default_is_left_to_sbatch() -> None:
    assert beyond(Target(executor="slurm", cpus=999), parse("gpu|infinite|4|4000|(null)")) == []


def test_gpus_are_asked_for_by_the_names_of_clusters() -> None:
    asked = {text: gres(Target(accelerators=(text,))) for text in ("A100:2", "gpu:1")}
    assert asked == {"A100:2": "gpu:a100:2", "gpu:1": "gpu:1"}
    assert gres(Target()) is None


def test_only_what_finds_programs_travels() -> None:
    kept = {"PATH": "/bin", "LC_ALL": "C", "SLURM_CONF": "/etc/s", "SBATCH_ACCOUNT": "lab"}
    left = {
        "WANDB_API_KEY": "x", "AWS_SECRET_ACCESS_KEY": "x", "CROWN_STORAGE__SECRET_ACCESS_KEY": "x",
        "SBATCH_EXPORT": "NONE", "SLURM_JOB_ID": "7", "MY_PATH": "x", "SLURM_JWT": "x", "LC_": "x",
    }  # fmt: skip
    assert travelling({**kept, **left}) == kept


def test_a_complaint_is_the_last_line() -> None:
    text = "sbatch: error: one\nsbatch: error: Batch job submission failed: two\n\n"
    assert complaint(text) == "Batch job submission failed: two"
    assert complaint("") == "it failed and did not say why"
