"""What a `_target_` takes, read from source: nothing is imported, so nothing of the user's runs."""

from crown_exp.config.targets.base import NOT_LITERAL, Parameter, Target, TargetError
from crown_exp.config.targets.find import find_target

__all__ = ["NOT_LITERAL", "Parameter", "Target", "TargetError", "find_target"]
