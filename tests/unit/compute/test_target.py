"""The group `compute` becomes a target; what is misspelt is told at once, all of it."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.compute.base import Candidate, Target
from crown_exp.compute.target import CLOUDS, priced, target_of
from crown_exp.config.schema import Compute, defaults
from crown_exp.errors import ConfigError


def compute(**keys: Any) -> dict[str, Any]:
    return defaults(Compute) | keys


def test_the_schemas_defaults_are_the_targets_own() -> None:
    assert target_of(compute()) == target_of({}) == Target()
    assert Target().is_here


def test_a_target_has_the_schemas_keys_and_no_others() -> None:
    assert [field.name for field in fields(Target)] == [field.name for field in fields(Compute)]


def test_texts_and_lists_are_read() -> None:
    target = target_of(
        compute(
            name="mine",
            executor="skypilot",
            accelerators=["A100", "H100:8"],
            spot=True,
            infra=["aws/us-east-1", "GCP"],
            avoid=["gcp/us-central1"],
            env={"A": "1"},
            secrets=["HF_TOKEN"],
            start_deadline="20 minutes",
            cpus=8,
        )
    )
    assert target == Target(
        name="mine", executor="skypilot", accelerators=("A100:1", "H100:8"), spot=True,
        infra=("aws/us-east-1", "GCP"), avoid=("gcp/us-central1",), env={"A": "1"},
        secrets=("HF_TOKEN",), start_deadline=1200.0, cpus=8,
    )  # fmt: skip
    assert not target.is_here
    assert target_of(compute(executor="slurm", time="4 hours")).time == 14400.0


NO_COUNT = "expected a name and a count such as A100:1, got"
NO_PLACE = "expected cloud, cloud/region or cloud/region/zone, got"
NO_TIME = "expected a time such as '5 minutes' or '4 hours', got"
FREE = "a run on this machine costs nothing; leave it out, or set it in another target's yaml"
ABOVE = "is above compute.max_usd_per_hour=2, which refuses such machines; raise that"
NO_USE = "means nothing to slurm; leave it out, or type"
TWICE = "T: travels as a secret and is in compute.env too; keep one of them"


@pytest.mark.parametrize(
    ("keys", "where", "what"),
    [
        ({"accelerators": ["A100:0"]}, "accelerators", f"{NO_COUNT} 'A100:0'"),
        ({"accelerators": ["8xA100"]}, "accelerators", f"{NO_COUNT} '8xA100'"),
        ({"infra": ["azur"]}, "infra", "no cloud 'azur'; did you mean azure?"),
        ({"avoid": ["aws/"]}, "avoid", f"{NO_PLACE} 'aws/'"),
        ({"infra": ["slurm/a/b/c"]}, "infra", f"{NO_PLACE} 'slurm/a/b/c'"),
        ({"env": {"A B": "1"}}, "env", "expected the name of an environment variable, got 'A B'"),
        (
            {"secrets": ["CROWN_JOB"]},
            "secrets",
            "CROWN_JOB is set by crown_exp itself; leave it out",
        ),
        ({"env": {"T": "1"}, "secrets": ["T"]}, "secrets", TWICE),
        ({"start_deadline": "soon"}, "start_deadline", f"{NO_TIME} 'soon'"),
        ({"executor": "slurm", "spot": True}, "spot", f"{NO_USE} compute.spot=false"),
        ({"executor": "slurm", "setup": ["true"]}, "setup", f"{NO_USE} compute.setup=[]"),
        ({"executor": "slurm", "disk_gb": 100}, "disk_gb", f"{NO_USE} compute.disk_gb=null"),
        ({"usd_per_hour": 0.5}, "usd_per_hour", FREE),
        (
            {"executor": "skypilot", "usd_per_hour": 2.5, "max_usd_per_hour": 2.0},
            "usd_per_hour",
            ABOVE,
        ),
        (
            {"executor": "skypilot", "time": "1 h"},
            "time",
            "means nothing to skypilot; leave it out, or type compute.time=null",
        ),
    ],
)
def test_what_is_misspelt_is_one_line(keys: dict[str, Any], where: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        target_of(compute(**keys))
    assert str(caught.value) == f"compute.{where}: {what}"


def test_where_a_machine_keeps_environments_may_be_said() -> None:
    env = {"CROWN_ENVIRONMENTS": "/scratch/environments"}
    assert target_of(compute(env=env)).env == env


def test_without_a_deadline_a_job_may_wait_for_ever() -> None:
    assert target_of(compute(start_deadline=None)).start_deadline == math.inf


@pytest.mark.parametrize("executor", ["slurm", "skypilot"])
def test_what_no_catalogue_sells_costs_what_the_target_says(executor: str) -> None:
    def machine(usd: float | None) -> Candidate:
        return Candidate("somewhere", "", "", "", False, usd)

    found = [machine(0.0), machine(3.0), machine(None)]
    target = target_of(compute(executor=executor, usd_per_hour=2))
    assert [it.usd_per_hour for it in priced(target, found)] == [2, 3.0, 2]
    assert priced(target_of(compute(executor=executor)), found) == found


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        target_of(compute(accelerators=["?"], infra=["nowhere"], time="long"))
    assert [problem.where for problem in caught.value.problems] == [
        "compute.time", "compute.accelerators", "compute.infra",
    ]  # fmt: skip


words = st.text(max_size=12) | st.sampled_from([*CLOUDS, "A100:1", "aws/us-east-1", "HF_TOKEN"])


@given(st.lists(words, max_size=3), st.lists(words, max_size=3), st.lists(words, max_size=3))
def test_any_texts_are_read_or_refused_in_lines(
    accelerators: list[str], infra: list[str], secrets: list[str]
) -> None:
    try:
        target = target_of(compute(accelerators=accelerators, infra=infra, secrets=secrets))
    except ConfigError as error:
        assert all("\n" not in str(problem) for problem in error.problems)
    else:
        assert len(target.accelerators) == len(accelerators)
        assert all(":" in each for each in target.accelerators)
