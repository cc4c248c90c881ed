"""The torch device of a run, the precision it computes in, and why."""

from crown_exp.devices.base import Choice, Probe
from crown_exp.devices.choice import choose

__all__ = ["Choice", "Probe", "choose"]
