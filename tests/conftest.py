"""What every test gets: the same environment on every machine, and no deadline on a shared one."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own settings or secrets decides a test."""
    for name in list(os.environ):
        if name.startswith(("CROWN_", "WANDB_", "AWS_", "HYDRA_FULL_ERROR")):
            monkeypatch.delenv(name)
