"""Whether a task is exact: the same run made straight, again, with workers, and killed."""

from crown_exp.launch.verify.course import Course, courses
from crown_exp.launch.verify.proving import Found, Proof, Prover
from crown_exp.launch.verify.suspects import Suspect, suspects, targets
from crown_exp.launch.verify.trail import Difference, Trail, difference

__all__ = [
    "Course",
    "Difference",
    "Found",
    "Proof",
    "Prover",
    "Suspect",
    "Trail",
    "courses",
    "difference",
    "suspects",
    "targets",
]
