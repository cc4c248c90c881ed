"""The door's calls of SkyPilot: which are made, and what becomes of what they give or raise.

SkyPilot here is the least that answers as 0.14.1 does; it is checked against the real one elsewhere.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crown_exp.compute.executors.skypilot import door as doors

NAMES = (
    *doors.REFUSED,
    *doors.VERSION,
    *doors.UNREACHABLE,
    "ClusterNotUpError",
    "ClusterDoesNotExist",
)
EXCEPTIONS = SimpleNamespace(**{name: type(name, (Exception,), {}) for name in NAMES})


class Sky:
    """Answers of SkyPilot by the name of the call: a value, or an exception that `get` raises."""

    exceptions = EXCEPTIONS
    states: Mapping[str, str] = {}

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.jobs = SimpleNamespace(
            launch=self._call("launch"),
            queue_v2=self._call("queue_v2"),
            cancel=self._call("cancel"),
            tail_logs=self._tail,
        )
        for name in ("status", "job_status", "down"):
            setattr(self, name, self._call(name))

    def _call(self, name: str) -> Callable[..., str]:
        def call(*args: Any, **kwargs: Any) -> str:
            self.calls.append((name, args, kwargs))
            return name

        return call

    def _tail(self, job_id: int, follow: bool, tail: int, output_stream: Any) -> None:
        assert (job_id, follow, tail) == (7, False, 8)
        if isinstance(self.answers["tail_logs"], Exception):
            raise self.answers["tail_logs"]
        output_stream.write(self.answers["tail_logs"])

    def api_status(self, requests: list[str], *, all_status: bool) -> list[SimpleNamespace]:
        assert all_status
        return [
            SimpleNamespace(status=self.states.get(it)) for it in requests if it in self.answers
        ]

    def get(self, request: str) -> Any:
        if request not in self.answers:
            raise RuntimeError(f"Failed to get request {request}: 404")
        answer = self.answers[request]
        if isinstance(answer, list) and answer and isinstance(answer[0], Exception):
            answer = answer.pop(0)
        elif isinstance(answer, list) and answer and isinstance(answer[0], tuple):
            answer = answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def record(number: int, status: str, **more: Any) -> SimpleNamespace:
    word = SimpleNamespace(value=status)  # an enum
    return SimpleNamespace(job_id=number, job_name=f"run-{number}", status=word, **more)


def ask(sky: Sky, do: str, **arguments: Any) -> dict[str, Any]:
    line = json.dumps({"id": 4, "do": do, "with": arguments})
    told: dict[str, Any] = json.loads(json.dumps(doors.answer(doors.Door(sky), line)))
    assert told["id"] == 4
    return told


def test_one_request_serves_all_managed_jobs_and_names_its_fields() -> None:
    sky = Sky(queue_v2=([record(1, "RUNNING", recovery_count=2), record(3, "FAILED")], 2, {}, 2))
    handles = ["job/run-1/1", "job/run-2/2", "job/run-3/3"]
    answer = ask(sky, "poll", handles=handles)["answer"]
    assert sorted(answer) == ["job/run-1/1", "job/run-3/3"]
    assert answer["job/run-1/1"]["status"] == "RUNNING"
    assert answer["job/run-1/1"]["recovery_count"] == 2
    ((name, _, asked),) = sky.calls
    assert name == "queue_v2"
    assert asked["job_ids"] == [1, 2, 3]
    assert "failure_reason" in asked["fields"]


def not_up(status: str | None) -> Exception:
    error: Exception = EXCEPTIONS.ClusterNotUpError("No in-progress managed jobs.")
    error.cluster_status = status and SimpleNamespace(value=status)  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize("status", [None, "STOPPED"])
def test_a_controller_that_is_stopped_or_never_was_has_no_jobs_and_is_not_started(
    status: str | None,
) -> None:
    sky = Sky(queue_v2=not_up(status), status=[])
    assert ask(sky, "jobs")["answer"] == []
    assert ask(sky, "poll", handles=["job/run-1/1"])["answer"] == {}
    assert ask(sky, "cancel", handles=["job/run-1/1"])["answer"] is None
    assert ask(sky, "log", handle="job/run-1/1", lines=3)["answer"] == ""
    assert [asked["refresh"] for name, _, asked in sky.calls if name != "status"] == [False] * 4


@pytest.mark.parametrize("status", ["INIT", "UP"])
def test_of_a_controller_that_cannot_be_asked_nothing_is_said(status: str) -> None:
    """Its jobs may live: they are not gone."""
    sky = Sky(queue_v2=not_up(status))
    told = ask(sky, "poll", handles=["job/run-1/1"])["error"]
    assert (told["kind"], told["type"]) == ("unknown", "ClusterNotUpError")
    assert [asked["refresh"] for _, _, asked in sky.calls] == [False]


def test_a_new_job_waits_for_the_controller_that_another_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doors, "LOOK_SECONDS", 0.0)
    sky = Sky(queue_v2=[not_up("INIT"), not_up("INIT"), ([record(1, "RUNNING")], 1, {}, 1)])
    arguments = {"resources": [], "managed": True, "idle_minutes": 10}
    told = ask(sky, "submit", task={"name": "run-1"}, **arguments)["error"]
    assert told["type"] == "NameTaken"
    monkeypatch.setattr(doors, "STARTS_SECONDS", 0.0)
    told = ask(Sky(queue_v2=not_up("INIT")), "submit", task={"name": "run-1"}, **arguments)["error"]
    assert told["type"] == "ClusterNotUpError"


WRONG = (
    "1",
    "job/run-2/1",
    "job/1",
    "job//1",
    "job/run-1/",
    "job/run-1/x",
    "run-1/1",
    "other/run-1/1",
    "",
)


@pytest.mark.parametrize("handle", WRONG)
def test_a_number_whose_job_has_another_name_or_none_is_not_known(handle: str) -> None:
    """Another server has counted to it too."""
    sky = Sky(queue_v2=([record(1, "RUNNING")], 1, {}, 1), cancel=None, tail_logs="of another")
    assert ask(sky, "poll", handles=[handle])["answer"] == {}
    assert ask(sky, "cancel", handles=[handle])["answer"] is None
    assert ask(sky, "log", handle=handle, lines=3)["answer"] == ""
    assert {name for name, _, _ in sky.calls} <= {"queue_v2"}


def test_jobs_are_those_of_plain_clusters_too() -> None:
    sky = Sky(
        queue_v2=([record(5, "PENDING")], 1, {}, 1),
        status=[{"name": "r1"}],
        job_status={1: SimpleNamespace(value="RUNNING")},
    )
    found = ask(sky, "jobs")["answer"]
    assert [(job["job_name"], job["handle"]) for job in found] == [
        ("run-5", "job/run-5/5"),
        ("r1", "cluster/r1/1"),
    ]


def test_a_plain_cluster_that_is_gone_knows_no_jobs() -> None:
    sky = Sky(job_status=EXCEPTIONS.ClusterDoesNotExist("gone"))
    assert ask(sky, "poll", handles=["cluster/r1/1"])["answer"] == {}


def test_a_managed_jobs_handle_has_its_name_and_what_comes_with_it_is_never_shown() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise NotImplementedError

    sky = Sky(request=([12], Odd()))
    assert ask(sky, "handle", ticket="job/r1/request")["answer"] == "job/r1/12"


@pytest.mark.parametrize(
    ("state", "kind"),
    [("FAILED", "refused"), ("CANCELLED", "refused"), ("SUCCEEDED", "unknown"), ("", "unknown")],
)
def test_a_request_that_failed_for_whatever_reason_has_made_no_job(state: str, kind: str) -> None:
    """It would be raised again for ever, and the run wait for it."""
    sky = Sky(request=KeyError("odd"))
    sky.states = {"request": state}
    told = ask(sky, "handle", ticket="job/r1/request")["error"]
    assert told["kind"] == kind
    assert "KeyError" in told["type"] + told["text"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EXCEPTIONS.ResourcesUnavailableError("no quota"), "refused"),
        (EXCEPTIONS.RequestCancelled("by somebody"), "refused"),
        (ValueError("bad name"), "refused"),
        (EXCEPTIONS.APIVersionMismatchError("other"), "version"),
        (EXCEPTIONS.ApiServerConnectionError("away"), "unreachable"),
        (ConnectionResetError("away"), "unreachable"),
        (RuntimeError("quota exceeded: unavailable resources"), "unknown"),
    ],
)
def test_an_error_is_told_by_its_class_and_not_by_its_words(error: Exception, kind: str) -> None:
    told = ask(Sky(request=error), "handle", ticket="job/r1/request")["error"]
    assert (told["kind"], told["type"]) == (kind, type(error).__name__)


def test_a_forgotten_request_is_the_job_of_its_name() -> None:
    """A server forgets its requests when it is started, and no job: one that is over is found too."""
    others = [record(7, "RUNNING"), SimpleNamespace(job_id=8, job_name="run-7-2", status="RUNNING")]
    again = SimpleNamespace(job_id=12, job_name="run-7", status="SUCCEEDED")
    sky = Sky(queue_v2=([again, *others], 3, {}, 3))
    assert ask(sky, "handle", ticket="job/run-7/request")["answer"] == "job/run-7/12"
    assert sky.calls[0][2]["name_match"] == "run-7"
    sky = Sky(job_status={4: SimpleNamespace(value="RUNNING")})
    assert ask(sky, "handle", ticket="cluster/r1/request")["answer"] == "cluster/r1/4"


@pytest.mark.parametrize(
    "ticket", ["job/r1/request", "cluster/r1/request", "request", "r1/request", ""]
)
def test_of_a_forgotten_request_without_a_job_nothing_is_left(ticket: str) -> None:
    sky = Sky(queue_v2=([], 0, {}, 0), job_status={})
    told = ask(sky, "handle", ticket=ticket)["error"]
    assert (told["kind"], told["type"]) == ("refused", "Forgotten")
    assert "down" not in [name for name, _, _ in sky.calls]


@pytest.mark.parametrize("managed", [True, False])
def test_a_name_that_is_taken_is_refused(managed: bool) -> None:
    sky = Sky(queue_v2=([record(1, "SUCCEEDED")], 1, {}, 1), status=[{"name": "run-1"}])
    told = ask(
        sky, "submit", task={"name": "run-1"}, resources=[], managed=managed, idle_minutes=10
    )["error"]
    assert (told["kind"], told["type"]) == ("refused", "NameTaken")


def test_a_cluster_whose_launch_was_refused_is_taken_down() -> None:
    sky = Sky(request=EXCEPTIONS.ClusterSetUpError("pip"), down=None)
    assert ask(sky, "handle", ticket="cluster/r1/request")["error"]["kind"] == "refused"
    assert sky.calls == [("down", ("r1",), {})]


def test_cancel_takes_a_plain_cluster_down_and_one_that_is_gone_is_no_error() -> None:
    there = [record(3, "RUNNING"), record(4, "RUNNING")]
    sky = Sky(queue_v2=(there, 2, {}, 2), cancel=None, down=EXCEPTIONS.ClusterDoesNotExist("gone"))
    handles = ["job/run-3/3", "job/run-5/4", "cluster/r1/1"]
    assert ask(sky, "cancel", handles=handles)["answer"] is None
    assert sky.calls[1:] == [("cancel", (), {"job_ids": [3]}), ("down", ("r1",), {})]


def test_the_log_is_what_was_printed_or_nothing() -> None:
    there = ([record(7, "RUNNING")], 1, {}, 1)
    sky = Sky(queue_v2=there, tail_logs="a\nb\n")
    assert ask(sky, "log", handle="job/run-7/7", lines=3)["answer"] == "a\nb\n"
    sky = Sky(queue_v2=there, tail_logs=EXCEPTIONS.ClusterNotUpError("not yet"))
    assert ask(sky, "log", handle="job/run-7/7", lines=3)["answer"] == ""


def test_what_skypilot_prints_does_not_come_between_the_answers(tmp_path: Path) -> None:
    (tmp_path / "sky.py").write_text(
        "import os\nprint('a greeting')\nos.system('echo from a child')\n__version__ = '0.14.1'\n"
        "class exceptions: pass\n"
        "def get(request):\n    print('waiting')\n    return [5], None\n"
    )
    done = subprocess.run(
        [sys.executable, doors.__file__],
        input=json.dumps({"id": 1, "do": "handle", "with": {"ticket": "job/a/r"}}) + "\n",
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"id": 0, "answer": {"version": "0.14.1"}},
        {"id": 1, "answer": "job/a/5"},
    ]
    assert "a greeting" in done.stderr
    assert "from a child" in done.stderr


USERS = [
    {"id": "fcd1e5cf", "name": "root", "created_at": 1796038160, "user_type": "system"},
    {"id": "skypilot-system", "name": "skypilot-system", "created_at": 1796038147},
]


class Common:
    """`sky.server.common` of 0.14.1, as far as it tells who answers."""

    def __init__(self, code: int, users: list[dict[str, Any]], url: str, local: bool) -> None:
        self.code, self.users, self.url, self.local = code, users, url, local
        self.called: list[Any] = []

    def check_server_healthy_or_start_fn(self) -> None:
        self.called.append("start")

    def make_authenticated_request(self, method: str, path: str) -> SimpleNamespace:
        self.called.append((method, path))
        return SimpleNamespace(
            status_code=self.code, json=lambda: self.users, raise_for_status=self._raise
        )

    def _raise(self) -> None:
        if self.code >= 400:
            raise ConnectionError(self.code)

    def get_server_url(self) -> str:
        return self.url

    def is_api_server_local(self, url: str) -> bool:
        assert url == self.url
        return self.local


def answers(monkeypatch: pytest.MonkeyPatch, **how: Any) -> Common:
    told: dict[str, Any] = {"code": 200, "users": USERS, "url": "http://127.0.0.1:46580"}
    common = Common(**{**told, "local": True, **how})
    monkeypatch.setattr(doors, "part", lambda name: {"server.common": common}[name])
    return common


def test_a_server_is_known_by_the_age_of_its_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr("socket.gethostname", lambda: "ws1")
    common = answers(monkeypatch)
    found = {"id": "1796038147", "place": "ws1 with HOME=/home/me"}
    assert ask(Sky(), "server")["answer"] == found
    assert common.called == ["start", ("GET", "/users")]


def test_a_servers_place_has_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, url="https://me:hush@sky.lab:8080/api", local=False)
    assert ask(Sky(), "server")["answer"]["place"] == "https://sky.lab:8080/api"


@pytest.mark.parametrize("how", [{"code": 404}, {"code": 403}, {"users": USERS[:1]}, {"users": []}])
def test_a_server_that_does_not_tell_is_not_known(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    answers(monkeypatch, **how)
    assert ask(Sky(), "server")["answer"] is None


def test_a_server_that_is_not_there_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, code=500)
    assert ask(Sky(), "server")["error"]["kind"] == "unreachable"
