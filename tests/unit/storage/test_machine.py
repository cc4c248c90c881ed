"""What this machine knows of its processes, asked about real ones."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp.storage import machine

unreaped = pytest.mark.skipif(
    not hasattr(os, "waitid"), reason="waiting for a death without reaping it takes waitid(2)"
)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """A process that has started and waits for its input to end."""
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "up\n"
        yield child
        child.kill()


def test_here() -> None:
    here = machine.here()
    assert here == machine.here()
    assert here.host == os.uname().nodename
    assert here.boot_id and "\n" not in here.boot_id
    assert here.alive(os.getpid(), machine.process_started(os.getpid()))


def test_a_process_has_one_start(process: subprocess.Popen[str]) -> None:
    started = machine.process_started(process.pid)
    assert started is not None
    assert machine.process_started(process.pid) == started
    assert machine.alive(process.pid, started)
    assert machine.alive(process.pid, None)
    assert not machine.alive(process.pid, started - 1)  # another process had this number


@unreaped
def test_a_killed_process_is_gone_before_it_is_reaped(process: subprocess.Popen[str]) -> None:
    started = machine.process_started(process.pid)
    process.kill()
    # Wait for its death without reaping it.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not machine.alive(process.pid, started)
    assert not machine.alive(process.pid, None)
    process.wait()
    assert not machine.alive(process.pid, started)
    assert machine.process_started(process.pid) is None


def test_a_stopped_process_is_alive(process: subprocess.Popen[str]) -> None:
    started = machine.process_started(process.pid)
    process.send_signal(signal.SIGSTOP)
    assert machine.alive(process.pid, started)


@unreaped
@pytest.mark.skipif(shutil.which("ps") is None, reason="no ps on this machine")
def test_ps_tells_the_same_story(process: subprocess.Popen[str]) -> None:
    """What macOS is asked, asked wherever there is a ps."""
    zombie, started = machine._from_ps(process.pid)
    assert not zombie and started > 1_700_000_000
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert machine._from_ps(process.pid)[0]
    process.wait()
    with pytest.raises(ValueError, match="does not match"):
        machine._from_ps(process.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_name_with_brackets_and_spaces_is_no_trap() -> None:
    comm = Path("/proc/self/comm")
    name, started = comm.read_text(), machine.process_started(os.getpid())
    comm.write_text(") Z 1 1 (")
    try:
        assert machine.process_started(os.getpid()) == started
        assert machine.alive(os.getpid(), started)
    finally:
        comm.write_text(name)
