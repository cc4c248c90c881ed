"""A run finds its way into the registry, and no registry gets in its way."""

import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crown_exp.registry import default_url, open_registry
from crown_exp.registry.base import Details
from crown_exp.runner import Run, indexing
from tests.running import Lab


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No machine is too slow to open a database; and no thread goes on when its test is over."""
    monkeypatch.setattr(indexing, "FINISH_SECONDS", 120.0)
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name == "crown-index":
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def url(lab: Lab) -> str:
    return default_url(lab.home)


def task(run: Run) -> dict[str, float]:
    for step in run.steps(20):
        run.log(loss=1.0 / (step + 1))
    return {"loss": 0.05}


def found(lab: Lab, url: str, run_id: str) -> Details:
    with lab.portal.enter(open_registry(url)) as registry:
        return lab.portal.call(registry.get, run_id)


def test_a_run_is_in_the_index_when_it_has_ended(lab: Lab, url: str) -> None:
    ended = lab.run(task, database=url)
    details = found(lab, url, ended.id)
    assert details.run.state == "completed"
    assert details.run.result == {"loss": 0.05}
    assert (details.run.step, details.summaries["loss"].n) == (20, 20)
    assert details.summaries["loss"].min == 0.05


def test_a_run_that_fails_is_in_the_index_as_failed(lab: Lab, url: str) -> None:
    def fails(run: Run) -> None:
        raise ValueError("no")

    ended = lab.run(fails, database=url)
    assert found(lab, url, ended.id).run.state == "failed"


def test_a_run_is_in_the_index_while_it_goes_on(
    lab: Lab, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "FIRST_SECONDS", 0.01)
    seen = threading.Event()

    class Watched(indexing.Indexing):
        def work(self) -> None:
            call = self.portal.call

            def told(work: Any, *args: Any) -> Any:
                answer = call(work, *args)
                if answer.records:
                    seen.set()
                return answer

            self.portal = type(
                "Told", (), {"call": staticmethod(told), "enter": self.portal.enter}
            )()
            super().work()

    monkeypatch.setattr("crown_exp.runner.attempt.Indexing", Watched)
    at_work: list[Details] = []

    def waits(run: Run) -> None:
        for _ in run.steps(2):
            run.log(loss=1.0)
        while not at_work:  # both points may be read together, or one after the other
            assert seen.wait(120)
            seen.clear()
            details = found(lab, url, run.id)
            if "loss" in details.summaries and details.summaries["loss"].n == 2:
                at_work.append(details)

    ended = lab.run(waits, database=url, beat_seconds=0.05)
    assert ended.code == 0
    assert at_work[0].run.state == "running"
    assert at_work[0].summaries["loss"].n == 2


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(b"no database at all" * 100), "it is no database"),
        (lambda path: path.mkdir(), "it cannot be opened"),
    ],
)
def test_a_registry_that_is_none_costs_a_line(
    lab: Lab, url: str, damage: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.home.mkdir(exist_ok=True)
    damage(lab.home / "registry.db")
    ended = lab.run(task, database=url)
    assert (ended.code, len(ended.points)) == (0, 20)
    lines = [line for line in capsys.readouterr().err.splitlines() if "index" in line]
    assert len(lines) == 1
    assert said in lines[0]
    assert "crown-exp reindex" in lines[0] or "CROWN_DATABASE__URL" in lines[0]


def test_a_url_of_another_kind_costs_a_line_without_its_password(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = lab.run(task, database="mysql://ada:hunter22@host/db")
    assert ended.code == 0
    said = capsys.readouterr().err
    assert "CROWN_DATABASE__URL" in said
    assert "hunter22" not in said


def test_code_that_is_taken_away_under_a_run_costs_a_line(
    lab: Lab, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "crown_exp.registry", None)
    assert lab.run(task, database=url).code == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "index" in line]
    assert "is not in the index: ModuleNotFoundError" in line


def test_a_registry_that_another_holds_delays_the_end_no_longer_than_the_limit(
    lab: Lab, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.run(task, database=url)
    capsys.readouterr()
    monkeypatch.setattr(indexing, "FINISH_SECONDS", 0.2)
    with closing(sqlite3.connect(lab.home / "registry.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ended = lab.run(task, database=url)
        assert ended.code == 0
        assert "the index does not answer" in capsys.readouterr().err
        other.execute("ROLLBACK")


def test_without_a_registry_there_is_none(lab: Lab) -> None:
    assert lab.run(task).code == 0
    assert not list(Path(lab.home).glob("registry*"))
