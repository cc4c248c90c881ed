"""W&B: which mode is chosen, what a run is there, what it leaves alone. The wandb is the real one, offline."""

from __future__ import annotations

import base64
import hashlib
import importlib.machinery
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crown_exp.errors import CrownError, SettingsError
from crown_exp.tracking import Artifact, Point, TrackedRun, apart
from crown_exp.tracking import wandb as wandb_module
from crown_exp.tracking.wandb import WandB, take_listed
from crown_exp.tracking.wandb_mode import chosen_mode, environment, has_key
from tests import wandb_files

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a netrc, and a project without a .env, as the current directory.

    W&B may take as long for its files as the machine is busy.
    """
    monkeypatch.setattr(wandb_module, "FINISH_SECONDS", 240.0)
    monkeypatch.setattr(apart, "KILLED_SECONDS", 60.0)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("NETRC", raising=False)
    project = tmp_path / "project"
    for folder in (tmp_path / "user", project):
        folder.mkdir()
    (project / "pyproject.toml").write_text("[tool.crown_exp]\n")
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def run(tmp_path: Path) -> TrackedRun:
    return TrackedRun(
        id="r261124-k7f3q2", name="cnn lr=0.1", experiment="digits_cnn", sweep="s-1a2b", tags=("paper", "b"),
        user="me", config={"model": {"width": 16}, "seed": 0, "path": Path("x"), "odd": (1, None)},
        attempt=1, home=tmp_path / "home",
    )  # fmt: skip


# --- the mode -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "known", "chosen"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": KEY}, "online"),
        ("auto", {"WANDB_API_KEY": ""}, "offline"),
        ("auto", {"WANDB_IDENTITY_TOKEN_FILE": "token"}, "online"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "online"}, "online"),
        ("auto", {"WANDB_MODE": "disabled", "WANDB_API_KEY": KEY}, "disabled"),
        ("auto", {"WANDB_MODE": "dryrun"}, "offline"),
        ("offline", {"WANDB_MODE": "online", "WANDB_API_KEY": KEY}, "offline"),
        ("online", {"WANDB_MODE": "disabled"}, "online"),
        ("disabled", {"WANDB_API_KEY": KEY}, "disabled"),
    ],
)
def test_the_mode(mode: str, known: dict[str, str], chosen: str) -> None:
    assert chosen_mode(mode, known) == chosen


def test_a_mode_that_is_none_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^WANDB_MODE: expected online, .*, got 'onlin'$"):
        chosen_mode("auto", {"WANDB_MODE": "onlin"})


@pytest.mark.parametrize(
    ("text", "known", "found"),
    [
        (f"machine api.wandb.ai\n  login user\n  password {KEY}\n", {}, True),
        (f"machine other.org\n  login user\n  password {KEY}\n", {}, False),
        (f"machine w.me:80\n login user\n password {KEY}\n", {"WANDB_BASE_URL": "http://w.me:80"}, True),
        (f"machine api.wandb.ai\n login user\n password {KEY}\n", {"WANDB_BASE_URL": "https://w.me"}, False),
        ("machine \x00 what is this", {}, False),
        ("", {}, False),
    ],
)  # fmt: skip
def test_a_key_that_wandb_login_left(
    tmp_path: Path, text: str, known: dict[str, str], found: bool
) -> None:
    file = tmp_path / "user" / ".netrc"
    file.write_text(text)
    file.chmod(0o600)
    assert has_key(known) is found
    assert has_key({**known, "NETRC": str(tmp_path / "none")}) is False


def test_a_key_in_the_projects_env_file_counts(run: TrackedRun, nobody_is_logged_in: Path) -> None:
    (nobody_is_logged_in / ".env").write_text(f"WANDB_API_KEY={KEY}\nWANDB_BASE_URL=not-a-url\n")
    with pytest.raises(CrownError, match="base_url"):  # so it went online, and with that address
        WandB().start(run)


def test_its_process_gets_the_environment_but_no_service_of_another_wandb() -> None:
    known = {"WANDB_SERVICE": "3-1-unix-/tmp/x", "WANDB_CACHE_DIR": "/theirs", "PATH": "/bin"}
    given = environment(known, Path("/home"))
    assert given.keys() >= {"PATH", "WANDB_DATA_DIR"}
    assert given["WANDB_CACHE_DIR"] == "/theirs"
    assert "WANDB_SERVICE" not in given


# --- its files ------------------------------------------------------------------------------------


def test_a_file_is_listed_if_name_and_content_are_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"text")
    mine = Artifact("notes/a.txt", 5, path, "text")
    digest = hashlib.md5(b"text", usedforsecurity=False)
    for sum_ in (digest.hexdigest(), base64.b64encode(digest.digest()).decode()):
        listed = {"5/notes/a.txt": sum_, "output.log": ""}
        assert take_listed(listed, mine)
        assert listed == {"output.log": ""}
        assert not take_listed(listed, mine)
    for other in ({}, {"5/notes/a.txt": ""}, {"5/notes/a.txt": "0" * 32}, {"6/notes/a.txt": sum_}):
        assert not take_listed(dict(other), mine)


def test_a_picture_is_listed_as_often_as_it_is_in_the_history(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"picture")
    begin = hashlib.sha256(b"picture").hexdigest()[:20]
    listed = {f"media/images/all/a.png_12_{begin}.png": "", "media/images/all/a.png_13_0.png": ""}
    picture = Artifact("all/a.png", 5, path, "image")
    assert not take_listed(dict(listed), picture._replace(name="b.png"))
    assert not take_listed(dict(listed), picture._replace(kind="file"))
    assert take_listed(listed, picture)
    assert not take_listed(listed, picture)


# --- a run ----------------------------------------------------------------------------------------


def of_kind(path: Path, kind: str) -> list[Any]:
    return [
        getattr(record, kind)
        for record in wandb_files.records(path)
        if record.WhichOneof("record_type") == kind
    ]


def test_a_run_there_is_the_run_here(run: TrackedRun) -> None:
    tracker = WandB("papers", "team")
    said = tracker.start(run)
    assert said == (
        "W&B offline (no key is set); to send it later, type: crown-exp push --wandb r261124-k7f3q2"
    )
    tracker.log([Point(5, 1.6e9, {"loss": 0.5})])
    tracker.finish(0, {"accuracy": 0.75})
    (path,) = wandb_files.files(run.home, run.id)
    (there,) = of_kind(path, "run")
    assert (there.run_id, there.display_name, there.run_group) == (run.id, run.name, run.sweep)
    assert (there.project, there.entity, list(there.tags)) == ("papers", "team", ["paper", "b"])
    config = {item.key: json.loads(item.value_json) for item in there.config.update}
    config.pop("_wandb", None)
    assert config == {"model": {"width": 16}, "seed": 0, "path": "x", "odd": [1, None]}
    metrics = {metric.name or metric.glob_name: metric for metric in of_kind(path, "metric")}
    assert metrics["*"].step_metric == "step"
    assert wandb_files.history(path)[0]["step"] == 5
    summary = {
        item.key: json.loads(item.value_json)
        for part in of_kind(path, "summary")
        for item in part.update
    }
    assert summary["result"] == {"accuracy": 0.75}
    assert [end.exit_code for end in of_kind(path, "exit")] == [0]


def test_the_exit_code_is_told_and_so_is_the_time_of_a_point(run: TrackedRun) -> None:
    tracker = WandB(mode="offline")
    tracker.start(run)
    tracker.log([Point(1, 1.6e9 + 0.125, {"loss": 0.5})])
    tracker.finish(79, None)
    (path,) = wandb_files.files(run.home, run.id)
    assert [end.exit_code for end in of_kind(path, "exit")] == [79]
    assert wandb_files.history(path)[0]["_timestamp"] == 1.6e9 + 0.125


def test_files_lie_under_the_run_and_pictures_in_the_history(
    run: TrackedRun, tmp_path: Path
) -> None:
    pytest.importorskip("PIL")
    from crown_exp.testing.trackers import PIXEL

    (tmp_path / "a.png").write_bytes(PIXEL)
    (tmp_path / "table.csv").write_text("a,b\n")
    tracker = WandB(mode="offline")
    tracker.start(run)
    tracker.artifact(Artifact("samples.png", 3, tmp_path / "a.png", "image"))
    tracker.artifact(Artifact("deep/table.csv", 7, tmp_path / "table.csv", "table"))
    tracker.finish(0, None)
    (path,) = wandb_files.files(run.home, run.id)
    assert (path.parent / "files/7/deep/table.csv").read_text() == "a,b\n"
    (row,) = wandb_files.history(path)
    assert (row["step"], row["samples.png._type"]) == (3, "image-file")


def test_a_disabled_one_starts_nothing(run: TrackedRun) -> None:
    tracker = WandB(mode="disabled")
    assert tracker.start(run) is None
    tracker.log([Point(1, 1.0, {"loss": 0.5})])
    tracker.finish(0, None)
    assert not run.home.exists()


def test_it_leaves_this_process_and_the_users_folder_alone(
    run: TrackedRun,
    nobody_is_logged_in: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    def state() -> tuple[Any, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return dict(os.environ), sys.excepthook, handlers, sys.stdout, sys.stderr, Path.cwd()

    imported = "wandb" in sys.modules
    before = state()
    tracker = WandB()
    tracker.start(run)
    tracker.finish(0, None)
    assert state() == before
    assert ("wandb" in sys.modules) == imported
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in nobody_is_logged_in.rglob("*")] == ["pyproject.toml"]
    assert list((tmp_path / "user").rglob("*")) == []
    assert list((tmp_path / "temporary").rglob("*")) == []
    assert {path.name for path in run.home.iterdir()} == {"wandb"}
    assert tracker.child is not None
    assert tracker.child.process.returncode is not None


def test_w_and_b_that_is_not_installed_costs_a_line(
    run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.machinery.PathFinder.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == "wandb" else real(name, *rest)

    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(importlib.machinery.PathFinder, "find_spec", without)
    with pytest.raises(SettingsError) as caught:
        WandB(mode="offline").start(run)
    assert str(caught.value) == "W&B is not installed; type: pip install wandb"
    assert not run.home.exists()


def test_a_folder_of_its_name_is_not_taken_for_it(
    run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(SettingsError, match="not installed"):
        WandB(mode="offline").start(run)


def test_w_and_b_that_is_broken_costs_a_line(
    run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.py").write_text("raise AttributeError('protobuf is too old')\n")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CrownError) as caught:
        WandB(mode="offline").start(run)
    assert str(caught.value) == "AttributeError: protobuf is too old"


def test_a_home_that_cannot_be_written_costs_a_line(run: TrackedRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        WandB(mode="offline").start(replace(run, home=tmp_path / "file"))


# --- attempts -------------------------------------------------------------------------------------


def test_an_attempt_sends_what_is_not_there_and_says_once_where_values_differ(
    run: TrackedRun,
) -> None:
    points = [Point(step, 1.6e9 + step, {"loss": 1 / step}) for step in range(1, 11)]
    first = WandB(mode="offline")
    first.start(run)
    first.log([points[0], *points[3:7]])  # it died before it had sent two of them
    first.finish(75, None)
    second = WandB(mode="offline")
    second.start(replace(run, attempt=2, resumed=4, earlier=lambda: points[:4]))
    assert second.log(points[4:6]) is None
    other = [point._replace(values={"loss": 0.0}) for point in points[6:]]
    assert second.log(other) == (
        "from step 7 on this attempt's values are not those of an earlier one, which W&B has and keeps; "
        "the run's own log has this attempt's"
    )
    assert second.log([Point(7, 1.0, {"rate": 1.0})]) is None
    second.finish(0, None)
    one, two = (
        [(step, [*values]) for step, values in wandb_files.points(wandb_files.history(path))]
        for path in wandb_files.files(run.home, run.id)
    )
    assert [step for step, _ in one] == [1, 4, 5, 6, 7]
    assert two == [(step, ["loss"]) for step in (2, 3, 8, 9, 10)] + [(7, ["rate"])]


def test_a_picture_of_a_turn_that_is_lived_through_again_is_there_once(
    run: TrackedRun, tmp_path: Path
) -> None:
    pytest.importorskip("PIL")
    from crown_exp.testing.trackers import PIXEL

    (tmp_path / "a.png").write_bytes(PIXEL)
    for attempt, resumed in ((1, None), (2, 4)):
        tracker = WandB(mode="offline")
        tracker.start(replace(run, attempt=attempt, resumed=resumed))
        for step in (5, 5 + attempt):
            tracker.artifact(Artifact("samples.png", step, tmp_path / "a.png", "image"))
        tracker.finish(0, None)
    found = [
        row["step"]
        for path in wandb_files.files(run.home, run.id)
        for row in wandb_files.history(path)
    ]
    assert found == [5, 6, 5 + 2]


HOLD = """
import sys, time
from pathlib import Path
from crown_exp.tracking.wandb import alone
alone(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_two_processes_never_write_to_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "wandb/r1.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        monkeypatch.setattr(wandb_module, "ALONE_SECONDS", 0.3)
        with pytest.raises(CrownError, match="another attempt of the run is still being sent"):
            wandb_module.alone(lock)
    finally:
        holder.kill()
        holder.communicate()
    wandb_module.alone(lock)
