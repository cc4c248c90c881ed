"""Pure codecs of everything in a run's folder, its paths, and what follows from its records."""

from crown_exp.folder.fence import Free, Held, Here, died_here, holder, judge
from crown_exp.folder.paths import RUNS, RunPaths
from crown_exp.folder.records import (
    AttemptRecord,
    EndRecord,
    JobRecord,
    ResultRecord,
    RunRecord,
    SpendingRecord,
    decode,
    encode,
)
from crown_exp.folder.segment import Segment, SegmentHeader, decode_segment
from crown_exp.folder.state import BEAT_LIMIT, Facts, state

__all__ = [
    "BEAT_LIMIT",
    "RUNS",
    "AttemptRecord",
    "EndRecord",
    "Facts",
    "Free",
    "Held",
    "Here",
    "JobRecord",
    "ResultRecord",
    "RunPaths",
    "RunRecord",
    "Segment",
    "SegmentHeader",
    "SpendingRecord",
    "decode",
    "decode_segment",
    "died_here",
    "encode",
    "holder",
    "judge",
    "state",
]
