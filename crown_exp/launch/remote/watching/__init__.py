"""Runs that are elsewhere, seen through: where each is, what it says, how it ended."""
