"""SkyPilot's executor keeps the contract on the real SkyPilot too."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from crown_exp.compute.base import Executor, Target
from crown_exp.testing import ExecutorContract
from tests.skypilot import TARGET, bed, marks, open_executor

pytestmark = marks


@pytest.fixture(scope="module")
def variables() -> Iterator[Mapping[str, str]]:
    with bed() as found:
        yield found


class TestRealSkyPilot(ExecutorContract):
    patience_seconds = 900.0
    poll_seconds = 2.0
    gives_terminals = False  # a plain cluster on Slurm cannot stop itself

    @pytest.fixture
    def open_executor(self, variables: Mapping[str, str]) -> Callable[[], Executor]:
        return lambda: open_executor(variables)

    @pytest.fixture
    def target(self) -> Target:
        return TARGET
