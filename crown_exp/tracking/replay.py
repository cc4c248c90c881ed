"""A run's points out of its folder, as a tracker would have been told of them: what counts of all attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crown_exp.errors import CrownError, StoreError
from crown_exp.folder import RunPaths, Segment, SegmentHeader, decode_segment
from crown_exp.folder.segment import RESUMED, Record
from crown_exp.storage import BlobStore
from crown_exp.tracking.base import Point


async def read_points(
    blobs: BlobStore, run_id: str, *, before: int | None = None
) -> tuple[list[Point], list[str]]:
    """The points of a run that count, in order, and a line for each segment that is not whole or not its own.

    before: only of attempts before this one; without it, for a run that nobody writes to. Raises StoreError.
    """
    paths, problems = RunPaths(run_id), list[str]()
    attempts: dict[int, list[Record]] = {}
    for entry in await blobs.list(paths.log):
        place = paths.segment_number(entry.path)
        if place is None or (before is not None and place[0] >= before):
            continue
        try:
            found = await _read_segment(blobs, entry.path, SegmentHeader(run_id, *place))
        except StoreError:
            raise
        except CrownError as error:
            problems.append(f"{error}; it is passed over")
            continue
        if found.torn:
            what = f"what comes after {found.good_bytes:,} bytes is torn or damaged"
            problems.append(f"{entry.path}: {what}; it is passed over")
        attempts.setdefault(place[0], []).extend(
            record for batch in found.batches for record in batch
        )
    return counting(attempts), problems


async def earlier_points(blobs: BlobStore, run_id: str, attempt: int, resumed: int) -> list[Point]:
    """The points up to the step `resumed`, from which an attempt goes on, that those before it logged.

    What is torn was lost with who wrote it; of that, others tell. Raises StoreError.
    """
    points, _ = await read_points(blobs, run_id, before=attempt)
    return [point for point in points if point.step <= resumed]


async def _read_segment(blobs: BlobStore, path: str, expected: SegmentHeader) -> Segment:
    """A whole segment. Raises CrownError for what is none, or not this one."""
    from anyio import to_thread

    data = await blobs.get(path)
    try:
        found = await to_thread.run_sync(decode_segment, data, path)
    except RecursionError:
        raise CrownError(f"{path}: damaged by its writer (too deep)") from None
    if found.header not in (None, expected):
        raise CrownError(f"{path}: is a log segment of something else")
    return found


def counting(attempts: Mapping[int, Sequence[Record]]) -> list[Point]:
    """The points of each attempt's records that no later attempt has superseded, in order.

    An attempt goes on from a step: what earlier ones logged after it is lived through again. Up to that
    step the later value of a name counts, as in the registry: code before the loop runs in every attempt.
    """
    kept: list[Point] = []
    for _, records in sorted(attempts.items()):
        points = [point for record in records if (point := point_of(record))]
        steps = resumed_at(records) or [point.step for point in points]
        if steps:
            first = min(steps)
            again = {
                (point.step, name)
                for point in points
                if point.step <= first
                for name in point.values
            }
            kept = [without(point, again) for point in kept if point.step <= first]
            kept = [point for point in kept if point.values]
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


def without(point: Point, again: set[tuple[int, str]]) -> Point:
    """A point but for what was logged again."""
    if not any((point.step, name) in again for name in point.values):
        return point
    left = {name: it for name, it in point.values.items() if (point.step, name) not in again}
    return point._replace(values=left)
