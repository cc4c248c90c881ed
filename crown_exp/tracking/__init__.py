"""Where what a run logs goes: its own log first, then whoever shows or keeps it."""

from crown_exp.tracking.base import Artifact, Loop, Point, Sink, TrackedRun, Tracker

__all__ = ["Artifact", "Loop", "Point", "Sink", "TrackedRun", "Tracker"]
