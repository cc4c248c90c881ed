"""The questions that an open registry answers. Each is one transaction: it sees one state of the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from crown_exp.clock import SystemClock
from crown_exp.registry import lookups, pages
from crown_exp.registry.base import (
    Comparison,
    Curve,
    Details,
    Filter,
    Page,
    RunInfo,
    Summary,
)
from crown_exp.registry.models import configs
from crown_exp.storage.database.engine import Database
from crown_exp.storage.database.statements import in_pieces


class Registry:
    """The index of runs, as `open_registry` gives it. Everything raises DatabaseError if it cannot be read.

    Runs are given by any prefix that only one has, of the whole id or of the part after its dash, or as
    `latest`; ConfigError tells if none fits, or several. `now` is the time at which states are told; the
    machine's clock by default.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def page(
        self,
        wanted: Filter | None = None,
        *,
        sort: str = "-created",
        limit: int | None = 50,
        offset: int = 0,
        columns: Sequence[str] = (),
        now: datetime | None = None,
    ) -> Page:
        """The runs that fit, `limit` of them from number `offset` on (None: all).

        sort: created, started, ended, name, experiment, user, step, bytes or a value of the runs as in
        `parse_wanted`; downwards with a `-` before it; runs without a value come last.
        columns: values to give along. Raises ConfigError for a value that no run has.
        """
        async with self.database.read() as connection:
            return await pages.find_page(
                connection,
                wanted or Filter(),
                sort=sort,
                limit=limit,
                offset=offset,
                columns=columns,
                now=now or SystemClock().now(),
            )

    async def get(self, prefix: str, *, now: datetime | None = None) -> Details:
        """A run with all that one look at it shows."""
        async with self.database.read() as connection:
            return await lookups.find_details(connection, prefix, now or SystemClock().now())

    async def info(self, prefix: str, *, now: datetime | None = None) -> RunInfo:
        """A run without what is read for a whole page of it: its config, attempts, metrics, files, events."""
        async with self.database.read() as connection:
            run_id = await lookups.find_id(connection, prefix)
            (found,) = await lookups.find_infos(connection, [run_id], now or SystemClock().now())
            return found

    async def find(self, prefix: str) -> str:
        """The id of a run."""
        async with self.database.read() as connection:
            return await lookups.find_id(connection, prefix)

    async def curve(self, prefix: str, metric: str, *, at_most: int | None = None) -> Curve:
        """A metric of a run over its steps. Raises ConfigError if it has none of that name.

        at_most: the most points that are wanted: if there are more, each stands for equally many steps,
        with the mean of what is not nan and the last step of them.
        """
        async with self.database.read() as connection:
            return await lookups.find_curve(connection, prefix, metric, at_most)

    async def summaries(self, prefix: str) -> Mapping[str, Summary]:
        """Every metric of a run, by name."""
        async with self.database.read() as connection:
            run_id = await lookups.find_id(connection, prefix)
            return (await lookups.find_summaries(connection, [run_id]))[run_id]

    async def compare(self, prefixes: Sequence[str], *, now: datetime | None = None) -> Comparison:
        """Two runs or more beside each other, each once, in the order given. Raises ConfigError for fewer."""
        async with self.database.read() as connection:
            return await lookups.compare(connection, prefixes, now or SystemClock().now())

    async def configs(self, ids: Sequence[str]) -> dict[str, Any]:
        """The config of each run (whole ids), as composed; those that are not there are left out."""
        found: dict[str, Any] = {}
        async with self.database.read() as connection:
            for piece in in_pieces(ids):
                c = configs.c
                rows = await connection.execute(select(c.run_id, c.tree).where(c.run_id.in_(piece)))
                found |= dict(rows.all())
        return found

    async def tags(self) -> dict[str, int]:
        """Every tag with how many runs have it, the most used first."""
        async with self.database.read() as connection:
            return await lookups.find_tags(connection)

    async def names(self) -> dict[str, list[str]]:
        """What runs are filtered, sorted and shown by: names of metrics, params and results."""
        async with self.database.read() as connection:
            return await lookups.find_names(connection)
