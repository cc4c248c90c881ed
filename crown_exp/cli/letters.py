"""Texts of any origin on a terminal: see `crown_exp.config.letters`, which all rooms share."""

from __future__ import annotations

from crown_exp.config.letters import columns, cut, fold, labelled, plain

__all__ = ["columns", "cut", "fold", "labelled", "plain"]
