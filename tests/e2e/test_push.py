"""`crown-exp push --wandb`: a run's folder into W&B. Offline W&B: the real one, read back from its file."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest

from tests import wandb_files
from tests.e2e.conftest import CommandLine
from tests.wandb_server import Server, wandb_server

pytest.importorskip("wandb", reason="W&B is not installed")

TASK = """
def train(run, *, steps: int = 50, fail: bool = False):
    for step in run.steps(steps):
        run.log(loss=1 / (1 + run.step), rate=0.1)
    run.artifact("notes/a.txt", "text")
    if fail:
        raise ValueError("no good")
    return {"loss": 0.5}
"""
KEY = "0123456789" * 4


@pytest.fixture
def lab(crown: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A project with a task that logs, of a user who is not logged in at W&B."""
    (tmp_path / "user").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("NETRC", raising=False)
    # All is sent, however slow.
    monkeypatch.setattr("crown_exp.tracking.wandb.FINISH_SECONDS", 120.0)
    crown.write("their_tasks.py", TASK)
    crown.write("conf/task/train.yaml", "_target_: their_tasks.train\n")
    return crown


@pytest.fixture
def offline(lab: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Where W&B only writes files."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    return lab


def made(crown: CommandLine, *overrides: str) -> str:
    """A run that has ended; its id."""
    crown("task=train", *overrides)
    return str(crown.runs()[-1]["id"])


def test_a_run_that_never_had_it_is_there_with_all_it_logged(offline: CommandLine) -> None:
    run_id = made(offline)
    said = offline("push", "--wandb", run_id)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0] == f"{run_id}  50 points, 1 file  written, not sent"
    assert lines[-1].startswith("next: wandb sync /")
    folder = Path(lines[-1].removeprefix("next: wandb sync "))
    assert (folder / "files/50/notes/a.txt").read_text() == "text"
    home = offline.root / ".crown"
    rows = wandb_files.rows(home, run_id)
    assert [step for step, _ in rows] == list(range(1, 51))
    assert rows[0][1].keys() == {"loss", "rate"}
    (file,) = wandb_files.files(home, run_id)
    assert file.parent == folder
    (there,) = [
        record.run
        for record in wandb_files.records(file)
        if record.WhichOneof("record_type") == "run"
    ]
    assert there.run_id == run_id
    keys = {item.key for item in there.config.update}
    assert {"task", "seed", "tracker"} <= keys


def test_several_runs_by_prefixes_as_json_without_a_registry(offline: CommandLine) -> None:
    runs = [made(offline, f"task.steps={steps}") for steps in (3, 4)]
    for file in (offline.root / ".crown").glob("registry.db*"):
        file.unlink()
    said = offline("push", "--wandb", runs[0], runs[1].partition("-")[2], "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert [(one["id"], one["points"], one["sent"]) for one in told] == [
        (runs[0], 3, 3),
        (runs[1], 4, 4),
    ]
    assert [one["mode"] for one in told] == ["offline", "offline"]


def test_a_failed_run_is_pushed_as_failed_with_its_tags(offline: CommandLine) -> None:
    run_id = made(offline, "task.fail=true")
    offline("tag", run_id, "+paper")
    assert offline("push", "--wandb", run_id).code == 0
    (file,) = wandb_files.files(offline.root / ".crown", run_id)
    records = {record.WhichOneof("record_type"): record for record in wandb_files.records(file)}
    assert list(records["run"].run.tags) == ["paper"]
    assert records["exit"].exit.exit_code == 1


def test_the_project_of_the_runs_own_config_comes_first(offline: CommandLine) -> None:
    tracked = made(offline, "tracker=wandb", "tracker.project=mine")
    plain = made(offline)
    for folder in (offline.root / ".crown" / "wandb").iterdir():
        shutil.rmtree(folder, ignore_errors=True)
    assert offline("push", "--wandb", "--project", "asked", tracked, plain).code == 0
    projects = []
    for run_id in (tracked, plain):
        (file,) = wandb_files.files(offline.root / ".crown", run_id)
        projects += [
            record.run.project for record in wandb_files.records(file) if record.HasField("run")
        ]
    assert projects == ["mine", "asked"]


def test_one_run_by_several_words_is_pushed_once(offline: CommandLine) -> None:
    run_id = made(offline)
    said = offline("push", "--wandb", "latest", run_id, run_id[:-1], "--json")
    assert said.code == 0, said.err
    assert [one["id"] for one in json.loads(said.out)] == [run_id]
    assert len(wandb_files.files(offline.root / ".crown", run_id)) == 1


def test_a_run_whose_folder_was_deleted_is_gone(offline: CommandLine) -> None:
    run_id = made(offline)
    shutil.rmtree(offline.root / ".crown/store/runs" / run_id)
    said = offline("push", "--wandb", run_id)
    assert said.code == 2
    assert said.lines[-1].startswith(f"{run_id}: is gone: its folder in ")
    assert wandb_files.files(offline.root / ".crown", run_id) == []


@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_pushed_is_said_also_if_a_later_run_fails(
    offline: CommandLine, as_json: bool
) -> None:
    good, bad, never = (made(offline, f"task.steps={steps}") for steps in (3, 4, 5))
    (offline.root / f".crown/wandb/{bad}-1.txt").mkdir(parents=True)
    said = offline("push", "--wandb", good, bad, never, *["--json"] * as_json)
    assert said.code == 80
    (line,) = said.lines
    assert line.startswith(f"{bad}: ")
    if as_json:
        assert [(one["id"], one["sent"]) for one in json.loads(said.out)] == [(good, 3)]
    else:
        first, following = said.out.splitlines()
        assert first == f"{good}  3 points, 1 file  written, not sent"
        assert following.startswith("next: wandb sync /")


def test_points_of_another_run_are_not_pushed_and_what_is_damaged_is_told(
    offline: CommandLine,
) -> None:
    run_id, other = made(offline, "task.steps=3"), made(offline, "task.steps=4")
    log = offline.root / ".crown/store/runs" / run_id / "log"
    (segment,) = (log.parent.parent / other / "log").glob("*.seg")
    shutil.copyfile(segment, log / "000001-000007.seg")
    with (log / "000001-000001.seg").open("ab") as file:
        file.write(b"torn")
    said = offline("push", "--wandb", run_id, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)[0]["points"] == 3
    foreign = "000001-000007.seg: is a log segment of something else; it is passed over"
    assert any(line.endswith(foreign) for line in said.lines)
    assert any("torn or damaged; it is passed over" in line for line in said.lines)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("push", "r1"), "push: to where? Expected crown-exp push --wandb RUN..."),
        (("push", "--wandb"), "push: which runs? Expected crown-exp push --wandb RUN..."),
    ],
)
def test_what_is_not_said_is_asked_for(
    lab: CommandLine, arguments: tuple[str, ...], line: str
) -> None:
    said = lab(*arguments)
    assert (said.code, said.lines) == (2, [line])


def test_an_unknown_run_is_one_line_and_nothing_is_sent(offline: CommandLine) -> None:
    run_id = made(offline)
    said = offline("push", "--wandb", run_id, "nope")
    assert said.code == 2
    assert len(said.lines) == 1 and said.lines[0].startswith("nope:")
    assert wandb_files.files(offline.root / ".crown", run_id) == []


def test_without_a_key_it_says_where_to_get_one(lab: CommandLine) -> None:
    said = lab("push", "--wandb", made(lab))
    assert said.code == 2
    assert said.lines == [
        "W&B has no key; nothing was sent. Type: wandb login, or set WANDB_API_KEY"
    ]


def test_disabled_it_sends_nothing(lab: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = made(lab)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    said = lab("push", "--wandb", run_id)
    assert (said.code, said.lines) == (2, ["WANDB_MODE: W&B is disabled; nothing was sent"])


def test_a_server_that_never_answers_costs_a_bounded_time_and_a_line(
    lab: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = made(lab)
    monkeypatch.setattr("crown_exp.cli.push.START_SECONDS", 1.0)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        said = lab("push", "--wandb", run_id)
    assert said.code == 80
    (line,) = said.lines
    assert line.startswith(f"{run_id}: W&B does not take it: ")
    assert line.endswith("Nothing is lost; type the same again later")
    assert KEY not in line


# --- online, against a stand-in for W&B's server --------------------------------------------------


@pytest.fixture
def server(lab: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Where W&B's client sends what it sends."""
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield server


def test_what_is_there_is_not_sent_again(lab: CommandLine, server: Server) -> None:
    run_id = made(lab)
    assert run_id not in server.runs
    said = lab("push", "--wandb", run_id)
    assert said.code == 0, said.err
    there = server.runs[run_id]
    url = f"{server.url}/me/uncategorized/runs/{run_id}"
    assert said.out.splitlines() == [f"{run_id}  50 points, 1 file  {url}", f"next: open {url}"]
    assert [row["step"] for row in there.history] == list(range(1, 51))
    assert there.files["50/notes/a.txt"] == b"text"
    assert there.exit_code == 0
    again = lab("push", "--wandb", run_id)
    assert again.out.splitlines()[0] == f"{run_id}  0 points (50 were there), 1 file  {url}"
    assert [row["step"] for row in there.history] == list(range(1, 51))


def test_a_file_that_is_listed_there_is_not_sent_again(
    lab: CommandLine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Server.as_bucket

    def with_files(self: Server, name: str) -> dict[str, Any] | None:
        if (bucket := real(self, name)) is None:
            return None
        nodes = [
            {
                "id": path, "name": path, "url": "", "directUrl": "", "sizeBytes": len(data), "mimetype": "",
                "updatedAt": None, "md5": b64encode(md5(data).digest()).decode(),
            }
            for path, data in self.runs[name].files.items()
        ]  # fmt: skip
        edges = [{"node": node, "cursor": str(at)} for at, node in enumerate(nodes)]
        page = {"endCursor": None, "hasNextPage": False}
        return bucket | {"fileCount": len(nodes), "files": {"edges": edges, "pageInfo": page}}

    monkeypatch.setattr(Server, "as_bucket", with_files)
    run_id = made(lab)
    assert lab("push", "--wandb", run_id).code == 0
    sent = server.runs[run_id].files
    again = lab("push", "--wandb", run_id, "--json")
    (told,) = json.loads(again.out)
    assert (told["files"], told["files_sent"]) == (1, 0)
    sent["50/notes/a.txt"] = b"something else"
    again = lab("push", "--wandb", run_id, "--json")
    (told,) = json.loads(again.out)
    assert (told["files"], told["files_sent"]) == (1, 1)
    assert sent["50/notes/a.txt"] == b"text"


def test_it_leaves_nothing_in_the_users_folder_nor_among_temporary_files(
    lab: CommandLine, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    run_id = made(lab, "tracker=wandb")
    assert list(temporary.iterdir()) == []
    said = lab("push", "--wandb", run_id)
    assert said.code == 0, said.err
    assert list(temporary.iterdir()) == []
    assert list((tmp_path / "user").rglob("*")) == []


def test_only_what_the_tracker_did_not_get_through_is_sent(
    lab: CommandLine, server: Server
) -> None:
    run_id = made(lab, "tracker=wandb")
    there = server.runs[run_id]
    assert len(there.history) == 50
    del there.history[20:]
    said = lab("push", "--wandb", run_id, "--json")
    (told,) = json.loads(said.out)
    assert (told["points"], told["sent"]) == (50, 30)
    assert [row["step"] for row in there.history] == list(range(1, 51))
    assert [row["_step"] for row in there.history] == list(range(50))
