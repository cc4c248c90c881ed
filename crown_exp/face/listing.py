"""Many runs, as Python sees them: `crown_exp.runs("tag:paper")`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, overload

from crown_exp.face import shown
from crown_exp.face.arguments import count, names, text
from crown_exp.face.frames import frame, need_pandas
from crown_exp.face.recorded import RecordedRun
from crown_exp.face.source import Source
from crown_exp.registry import parse_filter
from crown_exp.registry.base import Filter

if TYPE_CHECKING:
    import pandas


def runs(
    terms: str = "",
    *,
    sort: str = "-created",
    limit: int | None = None,
    columns: Sequence[str] = (),
) -> RunList:
    """The runs that fit all terms, as `crown-exp runs` takes them: `tag:paper state:failed lr<0.01 age<7d`.

    sort: created, started, ended, name, experiment, user, step, bytes or a value of the runs (`accuracy`,
    `min(loss)`), downwards with a `-` before it. limit: the most there may be, None for all. columns: values
    to read along. The store and the index are read when the list is first used.
    Raises ConfigError for what is no term and for a limit below 0 or above 2147483647, TypeError for an
    argument of another type.
    """
    return RunList(
        Source.here(),
        parse_filter(text("terms", terms)),
        text("sort", sort),
        count("limit", limit, 0),
        names("columns", columns),
    )


class RunList(Sequence[RecordedRun]):
    """Runs in an order, read once, when first used: `refresh` reads them again.

    Raises ConfigError then, for a value that no run has.
    """

    def __init__(
        self,
        source: Source,
        wanted: Filter,
        sort: str,
        limit: int | None,
        columns: Sequence[str],
    ) -> None:
        self._source, self._wanted, self._sort = source, wanted, sort
        self._limit, self._columns = limit, columns

    @cached_property
    def _runs(self) -> tuple[RecordedRun, ...]:
        return self._read()

    def _read(self) -> tuple[RecordedRun, ...]:
        with self._source.refreshed() as index:
            page = index.page(
                self._wanted,
                sort=self._sort, limit=self._limit, columns=self._columns,
            )  # fmt: skip
        return tuple(RecordedRun(self._source, info) for info in page.runs)

    def refresh(self) -> RunList:
        """Read them again, and return the list itself."""
        self._runs = self._read()
        return self

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, at: int) -> RecordedRun: ...
    @overload
    def __getitem__(self, at: slice) -> RunList: ...
    def __getitem__(self, at: int | slice) -> RecordedRun | RunList:
        if not isinstance(at, slice):
            return self._runs[at]
        part = RunList(self._source, self._wanted, self._sort, self._limit, self._columns)
        part._runs = self._runs[at]
        return part

    def to_pandas(self) -> pandas.DataFrame:
        """A row a run, by `id`.

        Columns: name, state, experiment, created (UTC), step, tags; the columns that were asked for; every key
        of the config in which they differ, by its dotted name; what the tasks returned, by name
        (`result.<name>` if that is taken). Raises CrownError if pandas is not installed.
        """
        need_pandas("runs().to_pandas")
        ids = [run.id for run in self._runs]
        configs = {}
        if ids:
            with self._source.opened() as index:
                configs = index.call(index.registry.configs, ids)
        return frame([run.info for run in self._runs], configs, self._columns)

    def __repr__(self) -> str:
        return shown.lines([run.info for run in self._runs])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return shown.table([run.info for run in self._runs], self._columns)
