"""Going back to a turn of a run, for the words that do: a throw-away copy, made up to that turn."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import Any, TextIO, cast

import click

from crown_exp.config.project import find_project
from crown_exp.launch.recorded import conf_of
from crown_exp.launch.session import Session, open_session
from crown_exp.launch.throw_away import throw_away_folder
from crown_exp.launch.visiting import Visited, Wanted, no_such_turn, visited, wanted
from crown_exp.runner import Ending, run_attempt
from crown_exp.runner.process import importable
from crown_exp.runner.visiting import Meet, TurnVisitor


class Voice(TextIOBase):
    """Standard error, as long as it has something to say. silent: from the start."""

    def __init__(self, silent: bool) -> None:
        self.silent = silent

    def write(self, text: str) -> int:
        """Say it, or not. What to type next is that of a run in earnest."""
        return len(text) if self.silent or text.startswith("next ") else sys.stderr.write(text)

    def hush(self) -> None:
        """Nothing more is worth saying."""
        self.silent = True

    def flush(self) -> None:
        """Say it now."""
        if not self.silent:
            sys.stderr.flush()

    def isatty(self) -> bool:
        """Whether somebody reads."""
        return not self.silent and sys.stderr.isatty()


@dataclass
class Visit:
    """A visit that is prepared. over: whether the turn was made, or seen."""

    session: Session
    want: Wanted
    copy: Visited
    silent: bool
    over: bool = False

    def make(
        self, meet: Meet, *, quick: bool, told: str, config: Mapping[str, Any] | None = None
    ) -> Ending:
        """Carry the task out up to the turn. Raises ConfigError if it has no such turn."""
        want, copy = self.want, self.copy
        since = f"the checkpoint of step {copy.since}" if copy.since else "the start"
        click.echo(f"{want.words}: {told} from {since}", err=True)
        voice = Voice(self.silent)

        visitor = TurnVisitor(want.step, meet, quick, copy.loops, then=voice.hush)
        ending = run_attempt(
            self.session.portal, copy.blobs, copy.run,
            home=copy.home, root=self.session.root, take_over=True,
            stream=cast(TextIO, voice), changes={**copy.changes, **(config or {})}, visit=visitor,
        )  # fmt: skip
        self.over = visitor.over
        if not visitor.met:
            raise no_such_turn(want, ending.step, ending.error, ending.exit_code)
        return ending


@contextmanager
def at_turn(turn: str, changes: Sequence[str], *, silent: bool) -> Iterator[Visit]:
    """A turn of a run that is to be visited, in a copy that is gone at the end. Raises ConfigError."""
    project = find_project(Path.cwd())
    root = project.root if project else Path.cwd()
    with importable(root), open_session(project, run=turn) as session:
        with conf_of(project) as loader:
            want = wanted(session, loader, turn, changes)
        with throw_away_folder() as folder:
            yield Visit(session, want, visited(session, want, folder), silent)
