"""Whether all that crown_exp needs is installed, reachable and allowed here, with what to type if not."""

from crown_exp.launch.doctor.base import Finding, Place
from crown_exp.launch.doctor.examine import examine, look_around

__all__ = ["Finding", "Place", "examine", "look_around"]
