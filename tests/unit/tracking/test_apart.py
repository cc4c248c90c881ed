"""An object in a process of its own."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from crown_exp.tracking import apart as module
from crown_exp.tracking.apart import Apart, Failed

THEIRS = '''
import atexit, fcntl, os, signal, subprocess, sys, threading, time
from crown_exp.errors import SettingsError


class Theirs:
    """What others write."""

    def __init__(self):
        self.count = 0

    def add(self, *numbers):
        self.count += sum(numbers)
        return self.count

    def fail(self, how):
        if how == "lines":
            raise ValueError("first\\nsecond")
        if how == "ours":
            raise SettingsError("set it")
        if how == "exit":
            sys.exit(3)
        if how == "odd":
            return object()
        sys.stderr.write("it is so sad\\n")
        os._exit(7)

    def noise(self):
        print("on standard output")
        os.write(1, b"and below it")
        return sys.stdin.read()

    def terminal(self):
        try:
            os.open("/dev/tty", os.O_RDWR)
        except OSError:
            return False
        return True

    def about(self):
        return [os.getpid(), os.environ.get("MINE"), signal.getsignal(signal.SIGINT) is not None]

    def echo(self, value):
        return value

    def temporary(self):
        import tempfile

        kept = tempfile.mkdtemp()
        open(os.path.join(kept, "file"), "w").close()
        return kept

    def half(self):
        for fd in range(3, 20):
            try:
                found = os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                continue
            if found.startswith("pipe:") and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                os.write(fd, b"[true, 1")
        time.sleep(1000)

    def hang(self):
        atexit.register(time.sleep, 1000)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
'''


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Apart]:
    """Starts the process of a `Theirs`, found as the tests' process finds it."""
    (tmp_path / "their_module.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    # On a busy machine the dead take their time.
    monkeypatch.setattr(module, "KILLED_SECONDS", 60.0)
    environment = dict(os.environ) | {"MINE": "yes"}
    said = tmp_path / "home" / "said.txt"
    return lambda: Apart("their_module:Theirs", environment=environment, said=said)


def call(one: Apart, name: str, *arguments: object) -> object:
    return one.call(name, *arguments, seconds=60)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_answers_and_keeps_its_state(apart: Callable[[], Apart]) -> None:
    one = apart()
    assert call(one, "add", 1, 2.5) == 3.5
    assert call(one, "add", float("inf")) == float("inf")
    assert call(one, "about") == [one.process.pid, "yes", True]


def test_what_it_raises_is_one_line_and_it_goes_on(apart: Callable[[], Apart]) -> None:
    one = apart()
    for how, words in [
        ("lines", "ValueError: first second"),
        ("ours", "set it"),
        ("exit", "SystemExit: 3"),
        ("odd", "TypeError: Object of type object is not JSON serializable"),
    ]:
        with pytest.raises(Failed) as caught:
            call(one, "fail", how)
        assert str(caught.value) == words
    with pytest.raises(Failed, match="AttributeError"):
        call(one, "no_such_method")
    assert call(one, "add", 1) == 1


def test_what_it_prints_is_kept_aside_and_it_is_asked_nothing(apart: Callable[[], Apart]) -> None:
    one = apart()
    assert call(one, "noise") == ""
    assert call(one, "terminal") is False
    one.end()
    assert "and below it" in one.said.read_text()


def test_one_that_printed_nothing_leaves_no_file(apart: Callable[[], Apart]) -> None:
    one = apart()
    call(one, "add", 1)
    one.end()
    assert not one.said.exists()


def test_one_that_ends_is_told_with_its_last_words(apart: Callable[[], Apart]) -> None:
    one = apart()
    with pytest.raises(Failed) as caught:
        call(one, "fail", "end")
    assert str(caught.value) == "its process ended with 7: it is so sad"
    with pytest.raises(Failed):
        call(one, "add", 1)


def test_one_that_does_not_answer_is_ended(apart: Callable[[], Apart]) -> None:
    one = apart()
    call(one, "add", 1)
    with pytest.raises(Failed, match=r"no answer to hang in 0\.1 s"):
        one.call("hang", seconds=0.1)
    assert not alive(one.process.pid)


def test_one_that_takes_no_question_is_ended(apart: Callable[[], Apart]) -> None:
    one = apart()
    call(one, "add", 1)
    os.kill(one.process.pid, signal.SIGSTOP)
    with pytest.raises(Failed, match=r"no answer to echo in 0\.1 s"):
        one.call("echo", "x" * 10_000_000, seconds=0.1)
    assert not alive(one.process.pid)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="its pipe is looked up in /proc")
def test_one_that_answers_by_half_is_ended(apart: Callable[[], Apart]) -> None:
    one = apart()
    call(one, "add", 1)
    with pytest.raises(Failed, match=r"no answer to half in 0\.5 s"):
        one.call("half", seconds=0.5)
    assert not alive(one.process.pid)


def test_a_question_and_an_answer_may_be_large(apart: Callable[[], Apart]) -> None:
    text = "ö" * 1_000_000
    assert call(apart(), "echo", text) == text


def test_its_temporary_files_go_with_it(apart: Callable[[], Apart]) -> None:
    one = apart()
    kept = Path(str(call(one, "temporary")))
    assert (kept / "file").exists()
    own = kept.parent
    assert own.parent == Path(tempfile.gettempdir())
    one.end()
    assert not own.exists()


def test_its_temporary_files_go_with_it_when_the_one_that_started_it_is_killed(
    apart: Callable[[], Apart], tmp_path: Path
) -> None:
    told = tmp_path / "told"
    if (child := os.fork()) == 0:
        try:
            one = apart()
            told.write_text(str(call(one, "temporary")))
        finally:  # whatever went wrong: it is no second process of these tests
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    own = Path(told.read_text()).parent
    until = time.monotonic() + 120
    while own.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_it_is_gone_with_the_object(apart: Callable[[], Apart]) -> None:
    one = apart()
    call(one, "add", 1)
    pid = one.process.pid
    del one
    gc.collect()
    assert not alive(pid)


def test_a_fork_does_not_end_it(apart: Callable[[], Apart]) -> None:
    one = apart()
    call(one, "add", 1)
    if (child := os.fork()) == 0:
        try:
            one.end()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert call(one, "add", 1) == 2


def test_ctrl_c_is_not_its_affair(apart: Callable[[], Apart]) -> None:
    one = apart()
    call(one, "add", 1)
    assert os.getpgid(one.process.pid) != os.getpgid(0)
    os.kill(one.process.pid, signal.SIGKILL)
    with pytest.raises(Failed, match="its process was ended by SIGKILL: it said nothing"):
        call(one, "add", 1)


def test_a_class_that_is_not_there_is_told(tmp_path: Path) -> None:
    one = Apart("no_such_module:C", environment=dict(os.environ), said=tmp_path / "said.txt")
    with pytest.raises(Failed, match="ModuleNotFoundError: No module named 'no_such_module'"):
        call(one, "add", 1)
