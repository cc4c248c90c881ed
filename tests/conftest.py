"""What every test gets: the same environment on every machine, and no deadline on a shared one."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from hypothesis import settings

settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

pytest_plugins = ["tests.s3.fixtures"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own settings or secrets decides a test."""
    for name in list(os.environ):
        if name.startswith(("CROWN_", "WANDB_", "AWS_", "HYDRA_FULL_ERROR")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def interrupts_as_python_has_them() -> None:
    """Ctrl-C raises KeyboardInterrupt, whatever started the tests, or ran before, made of it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
