"""What is paid for the machine that an attempt is on, by where and what that is."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crown_exp.config.settings import Machine
from crown_exp.folder import JobRecord
from crown_exp.folder.records import Rate
from crown_exp.runner import Run
from crown_exp.runner.place import place_of
from crown_exp.storage.runs import write_job
from tests.running import Lab

T0 = datetime(2026, 11, 30, 22, tzinfo=UTC)
RATE = Rate(cloud="aws", region="us-east-1", accelerators="A100:1", spot=True, usd_per_hour=2.0)
WEST: Rate = {**RATE, "region": "us-west-2", "usd_per_hour": 3.0}
GCP: Rate = {**RATE, "cloud": "gcp", "region": "us-central1", "usd_per_hour": 1.15}
LARGE: Rate = {**GCP, "accelerators": "A100-80GB:1", "usd_per_hour": 2.10}
HOPPER: Rate = {**GCP, "accelerators": "H100:1", "usd_per_hour": 11.06}
FREE: Rate = {**RATE, "cloud": "kubernetes", "region": "", "usd_per_hour": 0.0}
CENTRAL = Machine("gcp", "us-central1")


def job(*rates: Rate) -> JobRecord:
    return JobRecord(
        run="r1", number=1, executor="skypilot", created=T0, job="r1", cancelled=False, target="a100",
        rates=list(rates),
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without a driver, unless a test writes one."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin:/bin")
    driver(folder)
    return folder


def driver(folder: Path, *lines: str) -> None:
    """A program `nvidia-smi` that tells these GPUs, and that it was asked; without any it fails."""
    told = "\n".join(f"echo '{line}'" for line in lines) or "exit 9"
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho asked >>'{folder}/asked'\n{told}\n")
    program.chmod(0o755)


def was_asked(folder: Path) -> int:
    """How often the driver was asked."""
    path = folder / "asked"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize(
    ("at", "rate"),
    [
        (Machine("aws", "us-east-1"), RATE),
        (Machine("aws", "us-west-2"), WEST),
        (Machine("aws", "elsewhere"), WEST),
        (Machine("gcp", ""), GCP),
        (Machine("azure", "us-east-1"), WEST),
        (Machine(), WEST),
    ],
)
def test_the_place_is_the_job_s_rate_there_or_else_the_dearest(
    path: Path, at: Machine, rate: Rate
) -> None:
    assert place_of(job(RATE, WEST, GCP), at) == rate
    assert was_asked(path) == 0


def test_nothing_is_paid_without_a_rate() -> None:
    assert place_of(None, Machine("aws")) is None
    assert place_of(job(), Machine("aws")) is None
    assert place_of(job(FREE), Machine("kubernetes")) is None


def test_nothing_is_paid_on_the_free_one_of_several(path: Path) -> None:
    rates = job(FREE, GCP, LARGE)
    assert place_of(rates, Machine("kubernetes", "my-context")) is None
    assert place_of(rates, CENTRAL) == LARGE
    assert place_of(rates, Machine("elsewhere")) == LARGE


@pytest.mark.parametrize(
    ("told", "rates", "found"),
    [
        (["NVIDIA A100-SXM4-40GB, 40960 MiB"], [GCP, LARGE, HOPPER], GCP),
        (["NVIDIA A100 80GB PCIe, 81920 MiB"], [GCP, LARGE, HOPPER], LARGE),
        (["NVIDIA H100 80GB HBM3, 81559 MiB"], [GCP, LARGE, HOPPER], HOPPER),
        (["Tesla T4, 15360 MiB"], [GCP, LARGE, HOPPER], HOPPER),
        ([], [GCP, LARGE], LARGE),
    ],
)
def test_of_several_accelerators_it_is_the_one_that_is_there(
    path: Path, told: list[str], rates: Collection[Rate], found: Rate
) -> None:
    driver(path, *told)
    assert place_of(job(*rates), CENTRAL) == found
    assert was_asked(path) == 1


def done(run: Run) -> int:
    return run.attempt


def test_an_attempt_is_recorded_on_the_accelerator_that_it_has(
    lab: Lab, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(path, "NVIDIA A100-SXM4-40GB, 40960 MiB")
    monkeypatch.setenv("SKYPILOT_CLUSTER_INFO", '{"cloud": "GCP", "region": "us-central1"}')
    run = lab.make(done)
    lab.portal.call(write_job, lab.blobs, replace(job(GCP, LARGE), run=run, job=run))
    ended = lab.attempt(run, job=run)
    assert [it.place for it in ended.facts.attempts] == [GCP]
    assert was_asked(path) == 1
