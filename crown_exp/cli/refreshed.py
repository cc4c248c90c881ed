"""The index as a word opens it: brought up to date first, saying what that left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crown_exp.cli.letters import plain
from crown_exp.cli.screen import complain
from crown_exp.config.project import find_project
from crown_exp.config.settings import home_of
from crown_exp.errors import ConfigError
from crown_exp.launch.address import address
from crown_exp.launch.index import Index, look, look_at, open_index
from crown_exp.registry import ingest_run


@dataclass(frozen=True)
class RefreshedIndex(Index):
    """An index after a look at the store. gone: runs that were known before and are no longer there.

    left: how many runs there was no time for. readable: whether the store could be read.
    """

    gone: tuple[str, ...] = ()
    left: int = 0
    readable: bool = True

    def find(self, prefix: str) -> str:
        """The id of a run that is there. Raises ConfigError if none fits, several do, or it was deleted."""
        typed = prefix.strip().lower()
        try:
            run_id = self.call(self.registry.find, prefix)
        except ConfigError:
            for run in self.gone:
                if typed and (run.startswith(typed) or run.partition("-")[2].startswith(typed)):
                    raise self._deleted(run) from None
            raise
        if self.readable and self.call(self.registry.info, run_id).store == self.blobs.url:
            told = look_at(self, run_id, say)  # of a completed run, tags and notes may be new
            if told is not None and told.gone:
                raise self._deleted(run_id)
        return run_id

    def _deleted(self, run_id: str) -> ConfigError:
        return ConfigError.of(run_id, f"is gone: its folder in {self.blobs.url} was deleted")


@contextmanager
def index_for(run: str) -> Iterator[RefreshedIndex]:
    """The index to look up a run in that was typed: that of the project, as `refreshed_index`.

    If the folder of a run was typed, one of that run alone, which leaves nothing behind. Raises ConfigError
    for a folder of none.
    """
    asked = address(run)
    if asked.store is None:
        with refreshed_index() as index:
            yield index
        return
    with open_index(find_project(Path.cwd()), store=asked.store) as index:
        told = index.call(ingest_run, index.registry, index.blobs, asked.run)
        if told.gone:
            raise ConfigError.of(asked.run, f"no run in {index.blobs.url} has this id")
        for problem in told.problems:
            say(problem)
        yield RefreshedIndex(**vars(index))


@contextmanager
def refreshed_index() -> Iterator[RefreshedIndex]:
    """The index of the current directory's project, after a look at its store of at most two seconds.

    What is not as it should be is said on standard error. A store that cannot be read leaves what was
    known before. Raises SettingsError, DatabaseError if the index cannot be read, ConfigError outside of a
    project where nothing was ever run: asking leaves nothing behind.
    """
    project = find_project(Path.cwd())
    if project is None and not home_of(None).exists():
        what = "no project is here or above, nor any run; change to one, or type: crown-exp init"
        raise ConfigError.of(str(Path.cwd()), what)
    with open_index(project) as index:
        told = look(index, say)
        if told is None:
            yield RefreshedIndex(**vars(index), readable=False)
        else:
            yield RefreshedIndex(**vars(index), gone=told.gone, left=told.left)


def say(line: str) -> None:
    """Something is not as it should be."""
    complain(plain(line))
