"""A metric over the steps of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crown_exp.face import shown
from crown_exp.face.frames import need_pandas

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric of a run: three lists of equal length, by step.

    times: seconds since 1970, UTC.
    """

    run: str
    metric: str
    steps: list[int]
    values: list[float]
    times: list[float]

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        points = f"{len(self)} point{'' if len(self) == 1 else 's'}"
        ends = f" in steps {self.steps[0]}..{self.steps[-1]}, last {self.values[-1]:.6g}"
        return (
            f"<curve {shown.cut(self.metric)} of {self.run}: {points}{ends if self.steps else ''}>"
        )

    def to_pandas(self) -> pandas.DataFrame:
        """A row a point: index `step`, columns of the metric's name and `time` (UTC).

        Raises CrownError if pandas is not installed.
        """
        pandas = need_pandas("Curve.to_pandas")
        time = pandas.to_datetime(self.times, unit="s", utc=True)
        index = pandas.Index(self.steps, name="step", dtype="int64")
        columns = {self.metric: pandas.Series(self.values, index=index, dtype="float64")}
        return pandas.DataFrame(columns | {"time": pandas.Series(time, index=index)})
