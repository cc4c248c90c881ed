"""What is known about a target: its parameters, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal

from crown_exp.config.kinds import ANY, Kind
from crown_exp.errors import CrownError


class NotLiteral(Enum):
    """The default of a parameter that has none, or one that only running the code would tell."""

    NOT_LITERAL = "not a literal"


NOT_LITERAL = NotLiteral.NOT_LITERAL


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a target, as its source says.

    kind: what values it accepts; any if it has no annotation that can be read.
    required: it has no default.
    default: the default's value if its source is a literal, else NOT_LITERAL.
    default_text: the default's source; None if there is none.
    positional: it may also be given by position.
    is_config: annotated `Config[…]`: bound to the group of its name.
    doc: the first sentence about it.
    file, line: where it is written (an inherited one in the file of its class).
    """

    name: str
    kind: Kind = ANY
    required: bool = False
    default_text: str | None = None
    default: object = NOT_LITERAL
    positional: bool = True
    is_config: bool = False
    annotation_text: str = ""
    doc: str = ""
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a dotted name stands for.

    kind: unknown for what no source tells (C extensions, modules that make names as they run).
    parameters: by name, in order, without `self` and `cls`; what can be given by keyword.
    open: it may take more than `parameters` (`**kwargs`, or unknown).
    """

    name: str
    kind: Literal["function", "class", "unknown"]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    open: bool = True
    file: str | None = None
    line: int | None = None
    doc: str = ""

    def with_parameters(self, parameters: Mapping[str, Parameter]) -> Target:
        """The same target with other parameters."""
        return replace(self, parameters=dict(parameters))

    def opened(self) -> Target:
        """The same target, taking anything more and requiring nothing."""
        loose = {name: replace(one, required=False) for name, one in self.parameters.items()}
        return replace(self, parameters=loose, open=True)


class TargetError(CrownError):
    """A `_target_` names nothing, or a source that cannot be read.

    what: one sentence. suggestions: whole targets, best first. source: file, or file:line.
    """

    exit_code = 2

    def __init__(
        self, what: str, suggestions: Sequence[str] = (), source: str = "", hint: str = ""
    ) -> None:
        self.what = what
        self.suggestions = tuple(suggestions)
        self.source = source
        super().__init__(f"{what}; {hint}" if hint else what)
