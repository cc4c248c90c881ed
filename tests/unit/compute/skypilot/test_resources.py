"""Targets in SkyPilot's words, offers in ours."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crown_exp.compute.base import Target
from crown_exp.compute.executors.skypilot import resources as r

INFRA = ["aws", "gcp/us-central1", "lambda", "slurm/crown/a100", "kubernetes"]
targets = st.builds(
    Target,
    accelerators=st.lists(st.sampled_from(["A100:1", "H100:8", "L4:1"]), unique=True).map(tuple),
    infra=st.lists(st.sampled_from(INFRA), unique=True).map(tuple),
    spot=st.booleans(),
    nodes=st.integers(1, 4),
    managed=st.booleans(),
    recovery=st.sampled_from(["anywhere", "same"]),
    autostop_minutes=st.integers(1, 60),
    max_usd_per_hour=st.none() | st.floats(0.1, 40),
)
ROWS: list[dict[str, Any]] = [
    {"cloud": "aws", "region": "us-east-1", "machine": "p4", "usd_per_hour": 3.0},
    {"cloud": "aws", "region": "us-west-2", "machine": "p4", "usd_per_hour": 2.0},
    {"cloud": "gcp", "region": "us-central1", "machine": "a2", "usd_per_hour": 1.0},
]


@given(targets)
def test_a_plain_cluster_always_ends_itself_and_a_managed_job_always_recovers(
    target: Target,
) -> None:
    for choice in r.resources(target):
        if target.managed:
            assert choice["job_recovery"]["recover_on_exit_codes"] == [75, 80]
            assert choice["job_recovery"]["max_restarts_on_errors"] == 0
        else:
            assert choice["autostop"] == {"idle_minutes": target.autostop_minutes, "down": True}


@given(targets)
def test_all_choices_recover_in_one_way_and_slurm_keeps_its_partition(target: Target) -> None:
    choices = r.resources(target)
    ways = {str(choice.get("job_recovery")) for choice in choices}
    assert len(ways) == 1
    if target.managed and any(i.startswith("slurm") for i in target.infra):
        assert choices[0]["job_recovery"]["strategy"] == "EAGER_NEXT_REGION"
    assert not any(c["use_spot"] for c in choices if str(c.get("infra")).startswith("slurm"))


@given(targets)
def test_places_are_tried_for_one_accelerator_before_the_next(target: Target) -> None:
    choices = [(c.get("accelerators"), c.get("infra")) for c in r.resources(target)]
    wanted = [(a, i) for a in target.accelerators or (None,) for i in target.infra or (None,)]
    assert choices == wanted


@given(targets)
def test_no_candidate_is_dearer_than_allowed_and_prices_are_of_all_nodes(target: Target) -> None:
    found = r.candidates(target, dict.fromkeys(target.accelerators or ("",), ROWS), ["aws"])
    limit = target.max_usd_per_hour
    for candidate in found:
        assert candidate.usd_per_hour is not None
        assert limit is None or candidate.usd_per_hour <= limit
        assert candidate.usd_per_hour / target.nodes in (0.0, 1.0, 2.0, 3.0)


def test_the_order_of_candidates_is_that_of_infra_then_of_prices() -> None:
    target = Target(infra=("aws", "slurm/crown/cpu", "gcp"))
    found = r.candidates(target, {"": ROWS}, ["aws", "slurm"])
    assert [(c.cloud, c.region, c.enabled) for c in found] == [
        ("aws", "us-west-2", True),
        ("aws", "us-east-1", True),
        ("slurm", "crown/cpu", True),
        ("gcp", "us-central1", False),
    ]


def test_without_infra_the_cheapest_is_first() -> None:
    found = r.candidates(Target(), {"": ROWS}, ["aws", "gcp"])
    assert [c.usd_per_hour for c in found] == [1.0, 2.0, 3.0]


def test_without_infra_a_cluster_of_ones_own_is_tried_first_unless_it_is_avoided() -> None:
    found = r.candidates(Target(), {}, ["aws", "slurm"])
    assert [(c.cloud, c.usd_per_hour, c.enabled) for c in found] == [("slurm", 0.0, True)]
    assert r.candidates(Target(avoid=("slurm",)), {}, ["aws", "slurm"]) == []


def test_what_is_avoided_becomes_the_places_that_are_left() -> None:
    target = Target(avoid=("gcp", "aws/us-west-2"))
    found = r.candidates(target, {"": ROWS}, ["aws", "gcp"])
    assert r.narrowed(target, found).infra == ("aws/us-east-1",)
    assert r.clouds(target, ["aws", "gcp"]) == ["aws"]


def test_the_nearest_names_of_an_unknown_accelerator() -> None:
    target = Target(accelerators=("A1000:1", "l4:1"))
    (problem,) = r.unknown_accelerators(target, ["A100", "A100-80GB", "L4"])
    assert problem.where == "compute.accelerators"
    assert "'A1000'" in problem.what
    assert "A100" in problem.what.partition("did you mean")[2]


def test_the_limit_of_one_machine_is_a_share_of_the_limit_of_all() -> None:
    (choice,) = r.resources(Target(nodes=4, max_usd_per_hour=8.0))
    assert choice["max_hourly_cost"] == 2.0
