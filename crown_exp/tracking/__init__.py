"""Where what a run logs goes: its own log first, then whoever shows or keeps it."""

from crown_exp.tracking.base import Loop, Point, Sink

__all__ = ["Loop", "Point", "Sink"]
