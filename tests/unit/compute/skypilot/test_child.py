"""The process with SkyPilot in it, spoken to through doors of our own."""

import os
import pickle
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crown_exp.compute.base import ExecutorError
from crown_exp.compute.executors.skypilot.child import Child, DoorError, NotStarted
from tests.elsewhere import until

DOOR = """
    import json, os, pathlib, sys, time
    def say(told):
        print(json.dumps(told), flush=True)
    say({"id": 0, "answer": {}})
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "die":
            sys.stderr.write("the last word\\n")
            sys.exit(3)
        if asked["do"] == "sleep":
            time.sleep(600)
        if asked["do"] == "slow":
            here = pathlib.Path(os.environ["HOME"])
            (here / "asked").touch()
            while not (here / "go on").exists():
                time.sleep(0.02)
            say({"id": asked["id"], "answer": "late"})
        if asked["do"] == "odd":
            print("Hello from a library", flush=True)
        if asked["do"] == "fail":
            error = {"kind": asked["with"]["kind"], "type": "Oops", "text": "two\\nlines"}
            say({"id": asked["id"], "error": error})
        if asked["do"] == "echo":
            say({"id": asked["id"], "answer": [asked["with"], os.getpid(), os.environ["HOME"]]})
"""
Made = Callable[[str], Child]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Made]:
    children = []

    def made(script: str) -> Child:
        door = tmp_path / "door.py"
        door.write_text(textwrap.dedent(script))
        children.append(Child(home=tmp_path, door=door))
        return children[-1]

    yield made
    for child in children:
        child.close()


def test_one_process_answers_with_its_own_home(make: Made, tmp_path: Path) -> None:
    child = make(DOOR)
    text = "é\n'\"$HOME"
    told, pid, home = child.ask("echo", text=text)
    assert told == {"text": text}
    assert home == str(tmp_path)
    assert child.ask("echo")[1] == pid


def test_a_process_that_dies_is_one_line_and_the_next_call_starts_another(make: Made) -> None:
    child = make(DOOR)
    first = child.ask("echo")[1]
    with pytest.raises(ExecutorError, match=r"^SkyPilot's process ended with code 3") as caught:
        child.ask("die")
    assert "\n" not in str(caught.value)
    assert child.ask("echo")[1] != first


def test_a_call_has_a_deadline(make: Made) -> None:
    child = make(DOOR)
    first = child.ask("echo")[1]
    with pytest.raises(ExecutorError, match="did not answer within"):
        child.ask("sleep", 0.1)
    assert child.ask("echo")[1] != first


def test_the_answer_to_a_question_that_was_interrupted_is_nobody_elses(
    make: Made, tmp_path: Path
) -> None:
    """Ctrl-C in the middle of one, then another: as of who is cancelled."""
    child = make(DOOR)
    first = child.ask("echo")[1]
    cancelled = threading.Event()

    def ctrl_c() -> None:
        until(lambda: cancelled.is_set() or (tmp_path / "asked").exists())
        if not cancelled.is_set():  # else another test, or pytest itself, would be interrupted
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=ctrl_c)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            child.ask("slow")
    finally:
        cancelled.set()
        thread.join()
    (tmp_path / "go on").touch()
    assert child.ask("echo", text="x")[:2] == [{"text": "x"}, first]


def test_closing_does_not_wait_for_an_answer(make: Made) -> None:
    """SkyPilot's server may be silent for minutes, and Ctrl-C is to be the end."""
    child = make(DOOR)
    child.ask("echo")
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(child.ask, "sleep", 500.0)
        while not child.busy:
            time.sleep(0.01)
        child.close()
        with pytest.raises(ExecutorError, match="SkyPilot's process ended"):
            asked.result(timeout=120.0)


def test_anything_else_on_its_stdout_is_refused(make: Made) -> None:
    child = make(DOOR)
    with pytest.raises(ExecutorError, match="something odd: Hello from a library"):
        child.ask("odd")


@pytest.mark.parametrize(
    ("kind", "way_out"),
    [
        ("missing", r"pip install 'crown-exp\[sky\]'"),
        ("version", "sky api stop && sky api start"),
        ("unreachable", "sky api status"),
        ("refused", "Oops: two lines"),
        ("unknown", "Oops: two lines"),
    ],
)
def test_errors_have_kinds_and_one_line(make: Made, kind: str, way_out: str) -> None:
    child = make(DOOR)
    with pytest.raises(DoorError, match=way_out) as caught:
        child.ask("fail", kind=kind)
    assert (caught.value.kind, caught.value.type) == (kind, "Oops")
    assert "\n" not in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.kind) == (str(caught.value), kind)
    child.ask("echo")


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match=r"CROWN_SKY__PYTHON=.*cannot be started"):
        Child(str(tmp_path / "python")).ask("enabled")


@pytest.mark.parametrize(
    ("door", "why"),
    [("raise ImportError('no')", "has no SkyPilot"), ("exit(3)", "ended with code 3")],
)
def test_a_python_that_was_set_and_has_no_skypilot(tmp_path: Path, door: str, why: str) -> None:
    (tmp_path / "sky.py").write_text(door)
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    with pytest.raises(NotStarted, match=f"CROWN_SKY__PYTHON={python} .*{why}.*or unset it"):
        Child(str(python), env={"PYTHONPATH": str(tmp_path)}).ask("enabled")


def test_a_real_door_without_skypilot_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sky.py").write_text("raise ImportError('no sky here')")
    child = Child(home=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    with pytest.raises(DoorError, match="pip install") as caught:
        child.ask("enabled")
    assert caught.value.kind == "missing"
