from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crown_exp.cli import run_word
from crown_exp.folder.segment import encode_batch, encode_header, event, point
from tests.unit.cli.record import World
from tests.unit.registry.folders import T0, Folder, complete_run, make_run

ROOT = Path(__file__).parents[3]
START = T0.timestamp() + 3600
"""When attempt 1 of these folders began."""


def points(*steps: int, **values: float) -> list[Any]:
    return [point(step, START + step, values or {"loss": 1 / step}) for step in steps]


def logged(here: World, *batches: list[Any], **options: Any) -> Folder:
    """A run with a log."""
    made: Folder = here.call(make_run, here.blobs)
    here.call(made.attempt)
    here.call(made.log, batches, **options)
    return made


def test_what_a_run_logged_is_told_in_order(here: World) -> None:
    made = logged(
        here,
        [*points(1, 2), event(START + 2, "saved", {"step": 2}), event(START + 2, "beat", {})],
        [point(3, START + 65, {"loss": 0.125, "accuracy": 0.95})],
    )
    here.call(made.end, 1, 1, 3)
    began, *lines, last = here.out("logs", made.id)
    assert began.split() == ["attempt", "1", "began", "on", "box,", "pid", "42,", "cpu"]
    assert [line.split("  ") for line in map(str.strip, lines)] == [
        ["0:01", "step 1", "loss 1"],
        ["0:02", "step 2", "loss 0.5"],
        ["0:02", "saved", "step 2"],
        ["1:05", "step 3", "loss 0.125", "accuracy 0.95"],
        ["30:00", "attempt 1 failed after 3 steps: code 1"],
        ["| ..."],
    ]
    assert last == f"next: crown-exp show {made.id}"


@pytest.mark.parametrize("typed", ["r261122-k7f3q2", "r2611", "k7f", "K7F3"])
def test_a_run_goes_by_any_prefix(here: World, typed: str) -> None:
    made = here.call(complete_run, here.blobs)
    assert here.out("logs", typed)[-1] == f"next: crown-exp show {made.id}"


def test_json_is_an_object_a_line(here: World) -> None:
    made = logged(here, [point(1, START, {"loss": float("nan"), "up": float("inf")})], points(2))
    here.call(made.end)
    items = [json.loads(line) for line in here.out("logs", made.id, "--json")]
    assert [item["kind"] for item in items] == ["began", "point", "point", "ended"]
    assert items[0]["data"]["host"] == "box"
    assert items[1] == {
        "kind": "point", "attempt": 1, "time": "2026-11-22T11:00:00.000000Z", "step": 1,
        "values": {"loss": "nan", "up": "inf"},
    }  # fmt: skip
    assert items[3]["data"]["exit_code"] == 0


def test_only_the_metrics_that_are_asked_for(here: World) -> None:
    made = logged(here, points(1, loss=1.0, accuracy=0.5, lr=3.0), points(2, lr=3.0))
    lines = here.out("logs", made.id, "--metric", "accuracy,loss")
    assert [line.split("  ")[-3:] for line in lines[:-1]] == [["step 1", "accuracy 0.5", "loss 1"]]
    assert "did you mean accuracy?" in here.type("logs", made.id, "--metric", "acuracy")[2]
    assert "expected names like" in here.refused("logs", made.id, "--metric", "loss,")


@pytest.mark.parametrize("last", [1, 2, 3, 4, 5, 6, 7, 100])
def test_the_last_of_all_that_is_told(here: World, last: int) -> None:
    made = logged(here, points(1), points(2, 3))
    here.call(made.end, 1, 75, 3)
    here.call(made.attempt, 2)
    here.call(made.log, [points(4, 5)], attempt=2, torn=b"\x09")
    *everything, end = here.out("logs", made.id)
    assert here.out("logs", made.id, "--last", str(last)) == [*everything[-last:], end]


def test_the_last_points_of_a_metric_among_others(here: World) -> None:
    made = logged(here, points(1, 2, test=1.0), *(points(n, loss=1.0) for n in range(3, 50)))
    lines = here.out("logs", made.id, "--last", "1", "--metric", "test")
    assert [line.split("  ")[-2:] for line in lines[:-1]] == [["step 2", "test 1"]]


def test_only_the_end_of_a_long_log_is_decoded(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = logged(here, *(points(n) for n in range(1, 1000)))
    decoded: list[Any] = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda data: decoded.append(data) or loads(data))
    here.out("logs", made.id, "--last", "2")
    assert len([one for one in decoded if b'"m"' in bytes(str(one), "utf-8")]) <= 3


def test_printed_text_stands_with_its_attempt(here: World) -> None:
    made = logged(here, points(1))
    text = b"epoch 1\r 10%\r100%\n    indented \x1b[31mred\x07\nno end"
    here.call(here.blobs.put, made.paths.text_log(1, 0), text)
    here.call(here.blobs.put, made.paths.text_log(1, 1), b"from the other\n")
    lines = [line.strip() for line in here.out("logs", made.id)]
    assert lines[2:-1] == ["| 100%", "|     indented \\x1b[31mred\\x07", "rank 1 | from the other"]
    here.call(made.end)
    assert "| no end" in [line.strip() for line in here.out("logs", made.id)]


def test_names_of_any_kind_are_folded_and_harmless(here: World) -> None:
    wide = "損失" * 60
    names = {f"a/long/name/{n}": 1.0 for n in range(20)}
    made = logged(here, [point(1, START, {**names, wide: 2.0, "\x1b[2J\nx": 3.0, "\ud800": 4.0})])
    code, out, _ = here.type("logs", made.id)
    assert code == 0 and "\\x1b[2J\\nx 3" in out and "\\ud800 4" in out
    assert "".join(out.split()).count("損失" * 60) == 1


def test_a_clock_that_was_set_back(here: World) -> None:
    made = logged(here, [point(1, START + 5, {"loss": 1.0}), point(2, START - 60, {"loss": 1.0})])
    here.call(made.log, [[point(3, 1e300, {"loss": 1.0})]], number=2)
    times = [line.split()[0] for line in here.out("logs", made.id)[1:-1]]
    assert times[:2] == ["0:05", "-1:00"]
    items = [json.loads(line) for line in here.out("logs", made.id, "--json")]
    assert items[-1]["time"] is None


def test_a_run_that_did_nothing_yet(here: World) -> None:
    made = here.call(make_run, here.blobs)
    assert here.out("logs", made.id) == [f"next: crown-exp show {made.id}"]
    assert here.out("logs", made.id, "--last", "3", "--json") == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["logs", "k7f3q2", "--nest", "0"], "--nest"),
        (["logs", "zzz"], "zzz: no run in file://"),
        (["logs", "r2611"], "r2611: several runs fit: r261122-k7f3q2, r261122-k7f3q1"),
        (["logs", "k7f3q2", "--last", "0"], "Invalid value for '--last'"),
        (["logs", "k7f3q2", "--metric", "x"], "x: r261122-k7f3q2 has no metric of this name"),
    ],
)
def test_a_mistake_is_one_line(here: World, typed: list[str], said: str) -> None:
    for run_id in ("r261122-k7f3q1", "r261122-k7f3q2"):
        here.call(make_run, here.blobs, run_id)
    assert said in here.refused(*typed)


def test_without_a_run_it_is_the_newest(here: World) -> None:
    assert "latest: there is no run yet" in here.refused("logs")
    here.call(complete_run, here.blobs, "r261122-k7f3q2")
    assert any("loss 3" in line for line in here.out("logs"))


# --- followed -----------------------------------------------------------------------------------------


WRITER = """
import os, sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from crown_exp import Run
from crown_exp.storage import Portal, open_blobs
from tests.running import Lab

def task(run):
    for turn in run.steps(4):
        run.log(loss=1 / (turn + 1))
        print("logged", flush=True)
        sys.stdin.readline()
        if turn == 3 and run.attempt < int(sys.argv[3]):
            from crown_exp.errors import Stopped
            raise Stopped("preempted", 75)
    return {"loss": 0.25}

with Portal() as portal:
    lab = Lab(portal, open_blobs(sys.argv[1]), Path(sys.argv[1]) / "home")
    run = lab.make(task, {"tracker": {"progress": "none"}})
    print(run, flush=True)
    for attempt in range(int(sys.argv[3])):
        lab.attempt(run, job="cloud-1" if int(sys.argv[3]) > 1 else None)
"""


class Writer:
    """A process that carries a run out, a turn each time it is told to."""

    def __init__(self, store: Path, attempts: int = 1) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store), str(ROOT), str(attempts)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.run = self.hear()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


def follower(here: World, run: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "crown_exp", "logs", "-f", run, *options],
        cwd=here.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def next_line(child: subprocess.Popen[str]) -> str:
    """The next line that is not of a checkpoint."""
    assert child.stdout is not None
    while (line := child.stdout.readline().strip()).split("  ")[1:2] in (["saved"], ["resumed"]):
        pass
    return line


def rest(child: subprocess.Popen[str]) -> tuple[str, str]:
    """What it says until its end; not by `communicate`, which knows nothing of lines read ahead."""
    assert child.stdout is not None and child.stderr is not None
    said = child.stdout.read(), child.stderr.read()
    child.wait()
    return said


def test_a_run_of_another_process_is_followed_over_its_attempts_to_its_end(here: World) -> None:
    with Writer(here.root / "store", attempts=2) as writer, follower(here, writer.run) as child:
        try:
            for attempt in (1, 2):
                assert next_line(child).startswith(f"attempt {attempt} began on ")
                for step in range(1, 5):  # each is seen before the next is made
                    assert writer.hear() == "logged"
                    line = next_line(child)
                    assert line.split("  ")[1:] == [f"step {step}", f"loss {1 / step:.4g}"]
                    writer.go_on()
                how = "preempted after 3 steps" if attempt == 1 else "completed after 4 steps"
                assert f"attempt {attempt} {how}" in next_line(child)
            out, err = rest(child)
        finally:
            child.kill()
    assert out == f"{writer.run} completed; next: crown-exp show {writer.run}\n"
    assert (child.returncode, err) == (0, "")


def test_ctrl_c_ends_the_following_and_not_the_run(here: World) -> None:
    with Writer(here.root / "store") as writer, follower(here, writer.run, "--json") as child:
        try:
            assert writer.hear() == "logged"
            assert json.loads(next_line(child))["kind"] == "began"
            assert json.loads(next_line(child))["step"] == 1
            child.send_signal(signal.SIGINT)
            out, err = rest(child)
        finally:
            child.kill()
        assert (child.returncode, out, err) == (130, "", "interrupted\n")
        assert writer.process.poll() is None


def test_a_run_that_is_killed_ends_the_following(here: World) -> None:
    with Writer(here.root / "store") as writer, follower(here, writer.run) as child:
        try:
            assert writer.hear() == "logged"
            assert "began" in next_line(child)
            assert "step 1" in next_line(child)
            writer.process.kill()
            writer.process.wait()
            out, err = rest(child)
        finally:
            child.kill()
        assert out == f"{writer.run} lost; next: crown-exp show {writer.run}\n"
        assert (child.returncode, err) == (0, "")


def test_a_run_that_died_is_lost(here: World) -> None:
    made = logged(here, points(1))
    os.utime(here.runs / made.id / "log/000001-000001.seg", (1.0, 1.0))
    os.utime(here.runs / made.id / "attempts/000001.json", (1.0, 1.0))
    assert here.out("logs", "-f", made.id)[-1] == f"{made.id} lost; next: crown-exp show {made.id}"


def test_following_what_has_ended_tells_it_all_and_ends(here: World) -> None:
    made = here.call(complete_run, here.blobs)
    lines = here.out("logs", "-f", made.id)
    assert lines[:-1] == here.out("logs", made.id)[:-1]
    assert lines[-1] == f"{made.id} completed; next: crown-exp show {made.id}"
    assert here.out("logs", "-f", made.id, "--last", "2") == lines[-3:]


def test_each_poll_brings_what_is_new_and_nothing_twice(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segment grows by single bytes: a frame is shown when it is whole."""
    made = here.call(make_run, here.blobs)
    here.call(made.attempt)
    data = encode_header(made.id, 1, 1) + encode_batch(points(1)) + encode_batch(points(2, 3))
    path = here.runs / made.id / "log/000001-000001.seg"
    path.parent.mkdir()
    written = iter(range(0, len(data) + 1, 7))

    def grow(seconds: float) -> None:
        at = next(written, None)
        path.write_bytes(data if at is None else data[:at])
        if at is None:
            here.call(made.result, {"x": 1})
            here.call(made.end)

    monkeypatch.setattr("time.sleep", grow)
    lines = [line.strip() for line in here.out("logs", "-f", made.id)]
    assert [line.split("  ")[1] for line in lines[1:-2]] == ["step 1", "step 2", "step 3"]
    assert lines[-1].startswith(f"{made.id} completed")


def test_a_run_that_waits_is_waited_for_and_one_that_is_deleted_is_told(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = here.call(make_run, here.blobs)
    monkeypatch.setattr(
        "time.sleep", lambda seconds: here.call(here.blobs.delete, made.paths.record)
    )
    code, out, err = here.type("logs", "-f", made.id)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"{made.id} has not begun; waiting for it, Ctrl-C to leave",
        f"{made.id}: was deleted while it was followed",
    ]


def test_help_names_the_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_word(["logs", "--help"]) == 0
    assert {"--follow", "--metric", "--last", "--json"} <= set(
        capsys.readouterr().out.replace(",", " ").split()
    )
