"""Contract tests for what can be plugged in. Subclass one in your own test file:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self) -> BlobStore:
            return MyStore(...)

    class TestMyTask(TaskContract):
        overrides = ("+experiment=mine", "task.steps=20")

    class TestMyTracker(TrackerContract):
        @pytest.fixture
        def new_tracker(self) -> Callable[[], Tracker]:
            return MyTracker

    class TestMyExecutor(ExecutorContract):
        @pytest.fixture
        def open_executor(self) -> Callable[[], Executor]:
            return MyExecutor

pytest runs the tests of a store with the plugin that comes with anyio.
"""

from crown_exp.testing.executors import ExecutorContract
from crown_exp.testing.stores import StoreContract
from crown_exp.testing.tasks import TaskContract
from crown_exp.testing.trackers import TrackerContract

__all__ = ["ExecutorContract", "StoreContract", "TaskContract", "TrackerContract"]
