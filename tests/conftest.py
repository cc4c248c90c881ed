"""What every test gets: the same environment on every machine, and no deadline on a shared one.

And nothing that a test which failed has left behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import started
from tests.exactness.zygote import DEVELOPERS, Zygote

# A machine that stands still while values are drawn is neither late nor draws too slowly.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

pytest_plugins = ["tests.s3.fixtures"]

IN_MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes that must be free there; what tests leave is removed when they pass, and is far less."""


def pytest_configure() -> None:
    """Temporary folders are in memory where that will do, else where they always are.

    A run waits for the disk some forty times (fsync): on a disk that is half of the time of all tests, and
    nothing that a test can do to a process loses what was written, on a disk or in memory.
    """
    if IN_MEMORY.is_dir() and will_do(IN_MEMORY):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))


def will_do(folder: Path) -> bool:
    """Whether there is room, in it and in the memory behind it, and programs in it may be run."""
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    memory = int(told["MemAvailable"].split()[0]) << 10
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's, if it has one
    if limit.is_file() and (most := limit.read_text().strip()).isdigit():
        memory = min(memory, int(most) - int(limit.with_name("memory.current").read_text()))
    runs = not os.statvfs(folder).f_flag & os.ST_NOEXEC
    return runs and min(memory, shutil.disk_usage(folder).free) >= ROOM


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: a test often waits, for a process or a poll."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else 4


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own settings or secrets decides a test."""
    for name in list(os.environ):
        if name.startswith(DEVELOPERS):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def interrupts_as_python_has_them() -> None:
    """Ctrl-C raises KeyboardInterrupt, whatever started the tests, or ran before, made of it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that a test has failed."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(autouse=True)
def nothing_goes_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test that failed has started ends with it; one that passes has seen to that itself."""
    started.STARTED.clear()
    yield
    if request.node.stash.get(FAILED, False):
        started.end_all()
    started.STARTED.clear()


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """What forks commands that would import torch."""
    with Zygote.preloaded() as zygote:
        yield zygote
