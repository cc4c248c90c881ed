"""The executor, with the door's answers written down: what it asks, and what it makes of them."""

import json
import math
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.compute.base import ExecutorError, Job, JobState, NotSubmitted, Target
from crown_exp.compute.executors.skypilot import SkyPilotExecutor
from crown_exp.compute.executors.skypilot.child import Child
from crown_exp.compute.executors.skypilot.executor import task

DOOR = """
import json, sys
answers = json.load(open({path!r}))
print(json.dumps({{"id": 0, "answer": {{}}}}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    open({asked!r}, "a").write(line)
    print(json.dumps({{"id": asked["id"], **answers[asked["do"]]}}), flush=True)
"""
OFFERS = [
    {"cloud": "aws", "region": "us-east-1", "machine": "p4", "usd_per_hour": 3.0},
    {"cloud": "gcp", "region": "us-central1", "machine": "a2", "usd_per_hour": 1.0},
]
NAMES = {"names": ["A100", "H100"], "unread": {}}
CATALOGUE = {
    "enabled": ["aws", "gcp"],
    "catalogued": ["aws", "gcp"],
    "accelerators": NAMES,
    "offers": {"sold": OFFERS, "unread": {}},
}
Opened = Callable[..., SkyPilotExecutor]


@pytest.fixture
def open_executor(tmp_path: Path) -> Iterator[Opened]:
    opened = []

    def open_one(errors: dict[str, Any] | None = None, **answers: Any) -> SkyPilotExecutor:
        told = {do: {"answer": answer} for do, answer in answers.items()}
        told |= {do: {"error": error} for do, error in (errors or {}).items()}
        (tmp_path / "answers.json").write_text(json.dumps(told))
        door = tmp_path / "door.py"
        paths = {"path": str(tmp_path / "answers.json"), "asked": str(tmp_path / "asked")}
        door.write_text(DOOR.format(**paths))
        opened.append(SkyPilotExecutor(Child(sys.executable, door=door)))
        return opened[-1]

    yield open_one
    for executor in opened:
        executor.close()


def error(kind: str, type_: str = "Oops") -> dict[str, str]:
    return {"kind": kind, "type": type_, "text": "as told"}


def job(target: Target) -> Job:
    return Job("r261130-abc123", ["python", "-m", "crown_exp"], target, bundle=Path("/bundle"))


@pytest.mark.parametrize(
    ("target", "where", "what"),
    [
        (Target(accelerators=("A1000:1",)), "compute.accelerators", "did you mean A100"),
        (Target(max_usd_per_hour=0.5), "compute.max_usd_per_hour", "usd_per_hour=1.00 or more"),
        (Target(infra=("azure",)), "compute.infra", "type: sky check azure"),
        (Target(infra=("slurm/a/b",), managed=False), "compute.managed", "cannot stop itself"),
    ],
)
def test_problems_name_the_way_out(
    open_executor: Opened, target: Target, where: str, what: str
) -> None:
    problem = open_executor(**CATALOGUE).problems(target)[0]
    assert problem.where == where
    assert what in problem.what


def test_no_cloud_and_no_skypilot_are_problems(open_executor: Opened) -> None:
    (problem,) = open_executor(**{**CATALOGUE, "enabled": []}).problems(Target())
    assert problem.what.endswith("type: sky check")
    (problem,) = open_executor(**CATALOGUE).problems(Target(infra=("slurm/a",)))
    assert problem.what.startswith("slurm is not enabled for SkyPilot here (enabled: aws, gcp)")
    (problem,) = open_executor(**CATALOGUE).problems(Target(infra=("slurm/a", "azure")))
    assert problem.what.startswith("slurm, azure are not enabled")
    (problem,) = open_executor({"enabled": error("missing")}).problems(Target())
    assert "pip install 'crown-exp[sky]'" in problem.what


def test_a_good_target_has_no_problems(open_executor: Opened) -> None:
    executor = open_executor(**CATALOGUE)
    target = Target(accelerators=("A100:1",), spot=True)
    assert executor.problems(target) == []
    assert [c.cloud for c in executor.candidates(target)] == ["gcp", "aws"]


def test_nothing_that_is_sold_is_a_problem(open_executor: Opened) -> None:
    none = {"sold": [], "unread": {}}
    (problem,) = open_executor(**{**CATALOGUE, "offers": none}).problems(Target(spot=True))
    assert "no spot machine" in problem.what


def test_a_cloud_that_could_not_say_what_it_sells_is_told_where_nothing_is_found(
    open_executor: Opened,
) -> None:
    none = {"sold": [], "unread": {"aws": "ParserError: odd, from /c/aws/vms.csv", "gcp": ""}}
    found = open_executor(**{**CATALOGUE, "offers": none}).problems(Target())
    assert len(found) == 3
    assert "no machine with" in found[0].what
    assert "cannot tell what aws sells (ParserError: odd, from /c/aws/vms.csv)" in found[1].what
    assert "type: sky gpus list" in found[1].what
    assert "no prices of gcp here yet" in found[2].what
    some = {"sold": OFFERS, "unread": {"aws": "ParserError: odd"}}
    assert open_executor(**{**CATALOGUE, "offers": some}).problems(Target()) == []


def test_an_accelerator_that_no_catalogue_has_may_be_in_one_that_is_broken(
    open_executor: Opened,
) -> None:
    told = {"names": ["A100"], "unread": {"aws": "KeyError: 'InstanceType'"}}
    executor = open_executor(**{**CATALOGUE, "accelerators": told})
    unknown, unread = executor.problems(Target(accelerators=("L4:1",)))
    assert "sells 'L4'" in unknown.what
    assert "cannot tell what aws sells (KeyError: 'InstanceType')" in unread.what
    (unknown,) = executor.problems(Target(accelerators=("L4:1",), infra=("gcp",)))
    assert "sells 'L4'" in unknown.what
    (unread,) = executor.problems(Target(accelerators=("L4:1",), infra=("aws",)))
    assert "cannot tell what aws sells" in unread.what


def test_the_controller_has_a_price_unless_there_is_none(open_executor: Opened) -> None:
    found = open_executor(**CATALOGUE, controller={"cpus": "4+"}).controller()
    assert found is not None
    assert found.usd_per_hour == 1.0
    assert open_executor(controller=None).controller() is None


def test_what_is_avoided_is_not_asked_for(open_executor: Opened, tmp_path: Path) -> None:
    executor = open_executor(**CATALOGUE, submit="ticket")
    assert executor.submit(job(Target(avoid=("gcp",)))) == "ticket"
    asked = json.loads((tmp_path / "asked").read_text().splitlines()[-1])["with"]
    assert [choice["infra"] for choice in asked["resources"]] == ["aws/us-east-1"]
    with pytest.raises(NotSubmitted, match=r"compute\.avoid"):
        executor.submit(job(Target(avoid=("gcp", "aws"))))


@pytest.mark.parametrize("do", ["submit", "handle"])
def test_only_a_refusal_is_a_refusal(open_executor: Opened, do: str) -> None:
    def call(executor: SkyPilotExecutor) -> str:
        return executor.submit(job(Target())) if do == "submit" else executor.handle("ticket")

    with pytest.raises(NotSubmitted, match="Oops: as told"):
        call(open_executor({do: error("refused")}))
    for kind in ("unreachable", "version", "unknown", "missing"):
        with pytest.raises(ExecutorError):
            call(open_executor({do: error(kind)}))


def test_a_poll_asks_once_and_what_is_not_known_is_gone(
    open_executor: Opened, tmp_path: Path
) -> None:
    executor = open_executor(poll={"1": {"status": "RECOVERING", "recovery_count": 2}})
    found = executor.poll(["1", "2"])
    assert (found["1"].state, found["1"].recoveries) == (JobState.RECOVERING, 2)
    assert found["2"].state is JobState.GONE
    assert executor.poll([]) == {}
    executor.cancel([])
    assert len((tmp_path / "asked").read_text().splitlines()) == 1


def test_jobs_that_are_over_are_not_listed(open_executor: Opened) -> None:
    """A plain cluster has its finished job until it ends itself."""
    records = [
        {"job_name": "r1", "handle": "job/r1/1", "status": "RUNNING"},
        {"job_name": "r2", "handle": "cluster/r2/1", "status": "SUCCEEDED"},
        {"job_name": "r3", "handle": "cluster/r3/1", "status": "SETTING_UP"},
    ]
    found = open_executor(jobs=records).jobs()
    assert [(one.name, one.handle) for one in found] == [("r1", "job/r1/1"), ("r3", "cluster/r3/1")]


@pytest.mark.parametrize(
    ("missing", "infra", "told"),
    [
        (["aws", "gcp"], (), "no prices of aws, gcp here yet; with network, type: sky gpus list"),
        (["aws"], ("aws/us-east-1",), "no prices of aws here yet"),
        (["aws"], (), ""),
        (["aws"], ("gcp",), ""),
    ],
)
def test_a_catalogue_that_is_missing_is_told(
    open_executor: Opened, missing: list[str], infra: tuple[str, ...], told: str
) -> None:
    names = {
        "names": [] if len(missing) == 2 else ["A100"],
        "unread": dict.fromkeys(missing, ""),
    }
    executor = open_executor(**{**CATALOGUE, "accelerators": names})
    found = executor.problems(Target(accelerators=("A100:1",), spot=True, infra=infra))
    assert [told in problem.what for problem in found] == ([True] if told else [])


def test_a_log_is_what_the_job_printed_without_skypilots_own_lines(open_executor: Opened) -> None:
    seen = (
        "\x1b[2m└── \x1b[0mJob started. Streaming logs... \x1b[2m(Ctrl-C to exit)\x1b[0m\n"
        "\x1b[36m(one, pid=2160)\x1b[0m (a, b) x=1\n"
        "\x1b[36m(setup pid=7, ip=10.0.0.1)\x1b[0m\n"
        "\x1b[32m✓ Job finished (status: SUCCEEDED).\x1b[0m\n"
    )
    assert open_executor(log=seen).log("1") == "(a, b) x=1\n"
    none = "\x1b[31mno machine\x1b[0m\n"
    assert open_executor(log=none).log("1") == "no machine"


def test_the_log_has_no_more_lines_than_asked_for(open_executor: Opened) -> None:
    log = "(one, pid=1) a\n(one, pid=1) b\n(one, pid=1) c\n"
    assert open_executor(log=log).log("1", 2) == "b\nc"


@given(
    st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1)
)
def test_a_shell_reads_the_words_as_they_were(argv: list[str]) -> None:
    target = Target(setup=("apt list",), start_deadline=math.inf)
    made = task(Job("r1", argv, target, setup=argv, env={"CROWN_JOB": "no"}))
    assert shlex.split(made["run"]) == argv
    assert made["setup"] == f"set -e\napt list\n{shlex.join(argv)}"
    assert made["envs"] == {"CROWN_JOB": "r1"}


def test_where_no_cloud_is_enabled_a_plan_has_the_prices_of_those_that_might_be(
    open_executor: Opened,
) -> None:
    executor = open_executor(**CATALOGUE | {"enabled": []})
    target = Target(name="a100", executor="skypilot", accelerators=("A100:1",))
    found = executor.candidates(target)
    assert [(it.cloud, it.usd_per_hour, it.enabled) for it in found] == [
        ("gcp", 1.0, False),
        ("aws", 3.0, False),
    ]
    (problem,) = executor.problems(target)
    assert "no cloud is enabled" in problem.what
