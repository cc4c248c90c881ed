"""Where what a run logs goes: its own log first, then whoever shows or keeps it."""

from crown_exp.tracking.base import Point, Sink

__all__ = ["Point", "Sink"]
