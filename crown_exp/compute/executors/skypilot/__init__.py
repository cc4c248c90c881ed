"""Jobs on SkyPilot, which lives in a process of its own behind `door.py`."""

from crown_exp.compute.executors.skypilot.executor import SkyPilotExecutor, make_executor

__all__ = ["SkyPilotExecutor", "make_executor"]
