"""A run out of its folder, as a tracker would have been told of it: what counts of all its attempts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from crown_exp.errors import CrownError, StoreError
from crown_exp.folder import RunPaths
from crown_exp.folder.segment import Record
from crown_exp.registry.points import Cursor, Place
from crown_exp.registry.reading import RESUMED
from crown_exp.registry.segments import read_segment, torn_line
from crown_exp.storage import BlobStore
from crown_exp.tracking import Point

Mark = tuple[int, int]
"""A point's step and its time in milliseconds: what tells it from all others of its run."""


async def read_points(blobs: BlobStore, run_id: str) -> tuple[list[Point], list[str]]:
    """The points of a run that count, in order, and a line for each segment that is not whole or not its own.

    For a run that nobody writes to. Raises StoreError.
    """
    paths, problems = RunPaths(run_id), list[str]()
    attempts: dict[int, list[Record]] = {}
    for entry in await blobs.list(paths.log):
        place = paths.segment_number(entry.path)
        if place is None:
            continue
        try:
            found = await read_segment(blobs, entry.path, Place(run_id, *place), Cursor())
        except StoreError:
            raise
        except CrownError as error:
            problems.append(f"{error}; it is passed over")
            continue
        if found.torn:
            problems.append(torn_line(entry.path, found))
        attempts.setdefault(place[0], []).extend(
            record for batch in found.batches for record in batch
        )
    return counting(attempts), problems


def counting(attempts: Mapping[int, Sequence[Record]]) -> list[Point]:
    """The points of each attempt's records that no later attempt has superseded, in order.

    An attempt goes on from a step: what earlier ones logged after it is lived through again. At that very
    step the later value of a name counts, as in the registry.
    """
    kept: list[Point] = []
    for _, records in sorted(attempts.items()):
        points = [point for record in records if (point := point_of(record))]
        steps = [point.step for point in points] + resumed_at(records)
        if steps:
            first = min(steps)
            again = {name for point in points if point.step == first for name in point.values}
            kept = [without(point, again) if point.step == first else point for point in kept]
            kept = [point for point in kept if point.step <= first and point.values]
        kept += points
    return kept


def resumed_at(records: Sequence[Record]) -> list[int]:
    """The steps from which an attempt says that it went on."""
    found = [record[3] for record in records if record[0] == "e" and record[2] == RESUMED]
    return [data["step"] for data in found if isinstance(data.get("step"), int)]


def point_of(record: Record) -> Point | None:
    """The point that a record is, without what is no number; None if it is none."""
    if record[0] != "m":
        return None
    values = {
        name: float(value)
        for name, value in record[3].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return Point(int(record[1]), float(record[2]), values)


def without(point: Point, names: set[str]) -> Point:
    """A point but for some of its values."""
    return point._replace(
        values={name: value for name, value in point.values.items() if name not in names}
    )


def missing(points: Sequence[Point], there: Sequence[tuple[int, float]]) -> list[Point]:
    """The points of which no row (step, time) is there. As many of equal ones as are there are left out."""
    known = Counter(mark(step, time) for step, time in there)
    left: list[Point] = []
    for point in points:
        its = mark(point.step, point.time)
        if known[its] > 0:
            known[its] -= 1
        else:
            left.append(point)
    return left


def mark(step: int, time: float) -> Mark:
    """What tells a point from the others, also after its time went through a service's JSON."""
    return step, round(time * 1000)
