"""Hydra's published suites for launchers, run against the launcher and the sweeper `crown`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
from hydra.core.plugins import Plugins
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)
from hydra.version import _UNSPECIFIED_, VersionBase

CROWN = ["hydra/sweeper=crown"]


@pytest.fixture(autouse=True)
def hydra_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The suites are written for the defaults of Hydra 1.1, of which Hydra 1.3 warns."""
    monkeypatch.setattr(VersionBase.instance(), "version_base", _UNSPECIFIED_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_hydra_finds_the_plugins() -> None:
    found = [plugin.__name__ for plugin in Plugins.instance().discover()]
    assert {"CrownLauncher", "CrownSweeper", "CrownSearchPath"} <= set(found)


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("crown", []), ("crown", CROWN)], ids=["basic", "crown"]
)
class TestLauncher(LauncherTestSuite):
    pass


@pytest.mark.parametrize(
    ("launcher_name", "overrides"),
    [
        ("crown", ["hydra.sweeper.max_batch_size=2"]),
        ("crown", [*CROWN, "hydra.sweeper.max_batch_size=2"]),
    ],
    ids=["basic", "crown"],
)
class TestBatchedSweeper(BatchedSweeperTestSuite):
    pass


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [
        pytest.param({}, ["-m", "hydra/launcher=crown"], id="basic"),
        pytest.param(
            {}, ["-m", "hydra/launcher=crown", *CROWN], id="crown", marks=pytest.mark.full
        ),
    ],
)
class TestIntegration(IntegrationTestSuite):
    pass
