"""What values a parameter accepts: `Kind`, a type language as small as yaml.

A path is a string, a tuple is a list, a mapping with `_target_` stands for what it will build and
fits anything. What is not known accepts anything: what cannot be read is never an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from crown_exp.config.secrets import redact

Number = int | float


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a number, or (the last two) of the length of a string, list or mapping."""

    gt: Number | None = None
    ge: Number | None = None
    lt: Number | None = None
    le: Number | None = None
    multiple_of: Number | None = None
    min_length: int | None = None
    max_length: int | None = None

    def hold(self, value: Number) -> bool:
        """Whether a number keeps the limits; nan keeps no limit."""
        return (
            (self.gt is None or value > self.gt)
            and (self.ge is None or value >= self.ge)
            and (self.lt is None or value < self.lt)
            and (self.le is None or value <= self.le)
            and (self.multiple_of is None or value % self.multiple_of == 0)
        )

    def hold_length(self, length: int) -> bool:
        """Whether a length keeps the limits."""
        return (self.min_length is None or length >= self.min_length) and (
            self.max_length is None or length <= self.max_length
        )

    def __str__(self) -> str:
        """What follows a noun: ` > 0`, `, a multiple of 8`, ` of length 2`."""
        multiple = f", a multiple of {self.multiple_of}" if self.multiple_of is not None else ""
        parts = (f" {part}" for part in (self._range(), self._length()) if part)
        return f"{''.join(parts)}{multiple}"

    def _range(self) -> str:
        low = self.ge if self.gt is None else self.gt
        high = self.le if self.lt is None else self.lt
        if low is not None and high is not None:
            opening, closing = "[" if self.gt is None else "(", "]" if self.lt is None else ")"
            return f"in {opening}{low}, {high}{closing}"
        if low is not None:
            return f"{'>=' if self.gt is None else '>'} {low}"
        return "" if high is None else f"{'<=' if self.lt is None else '<'} {high}"

    def _length(self) -> str:
        low, high = self.min_length, self.max_length
        if low is not None and high is not None:
            return f"of length {low}" if low == high else f"of length {low} to {high}"
        if low is not None:
            return f"of length {low} or more"
        return "" if high is None else f"of length {high} or less"


@dataclass(frozen=True, slots=True)
class Kind:
    """What values a parameter accepts. `str(kind)` is `int > 0`, `'sum' | 'mean'`, `int or null`.

    name: any, int, float, bool, str, none, literal, list, tuple, dict, union, or tensor (which no
        yaml value is: a union leaves it out, alone it accepts anything).
    items: the kind of a list's items, of a dict's values, of each place of a tuple, or the members
        of a union.
    choices: the values of a literal.
    doc: a line about it, if the annotation carries one.
    """

    name: str
    items: tuple[Kind, ...] = ()
    choices: tuple[object, ...] = ()
    bounds: Bounds = Bounds()
    doc: str = ""

    @property
    def open(self) -> bool:
        """Whether any value fits."""
        return self.name in ("any", "tensor")

    def __str__(self) -> str:
        if self.name == "literal":
            return " | ".join(map(shown, self.choices))
        if self.name == "union":
            *head, last = map(str, self.items)
            return f"{', '.join(head)} or {last}"
        return f"{self._noun()}{self.bounds}{self._inner()}"

    def _noun(self) -> str:
        if self.name == "tuple":
            return f"[{', '.join(map(str, self.items))}]"
        return {"none": "null", "dict": "mapping", "tensor": "any"}.get(self.name, self.name)

    def _inner(self) -> str:
        """What is in a list or mapping: ` of int`."""
        if self.name not in ("list", "dict") or not self.items or self.items[0].open:
            return ""
        inner = str(self.items[0])
        inner = f"({inner})" if self.items[0].name == "union" or ", " in inner else inner
        return f" of {inner}" if self.name == "list" else f" of str to {inner}"


ANY = Kind("any")
NONE = Kind("none")


def shown(value: object) -> str:
    """A value as yaml writes it, without what looks like a secret, cut off at forty characters."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = redact(repr(value), {})
    return text if len(text) <= 40 else text[:39] + "…"


def check(kind: Kind, value: object) -> str | None:
    """None if the value fits, else one sentence: `expected an int > 0, got 'abc'`."""
    miss = _mismatch(kind, value, "")
    if miss is None:
        return None
    expected, got, path = miss
    return f"expected {_with_article(expected)}, got {shown(got)}{path and f' at {path}'}"


def _with_article(kind: Kind) -> str:
    first = kind.items[0].name if kind.name == "union" else kind.name
    if first in ("literal", "tuple", "none"):
        return str(kind)
    return f"{'an' if first == 'int' else 'a'} {kind}"


Miss = tuple[Kind, object, str]


def _mismatch(kind: Kind, value: object, path: str) -> Miss | None:
    """The innermost part that does not fit: what was expected there, what it is, where it is."""
    if kind.open or (isinstance(value, Mapping) and "_target_" in value):
        return None
    if kind.name == "union":
        fits = any(_mismatch(member, value, path) is None for member in kind.items)
        return None if fits else (kind, value, path)
    if not _outside_fits(kind, value):
        return kind, value, path
    misses = (_mismatch(*inner) for inner in _inside(kind, value, path))
    return next((miss for miss in misses if miss), None)


def _inside(kind: Kind, value: object, path: str) -> Iterator[tuple[Kind, object, str]]:
    """Each item of a value with the kind it must have and its place."""
    if kind.items and isinstance(value, Mapping):
        for key, item in value.items():
            yield kind.items[0], item, f"{path}[{key!r}]"
    elif kind.items and _is_list(value):
        for at, item in enumerate(value):
            yield kind.items[at if kind.name == "tuple" else 0], item, f"{path}[{at}]"


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_number(value: object, types: type | tuple[type, ...]) -> TypeGuard[Number]:
    return isinstance(value, types) and not isinstance(value, bool)


def _outside_fits(kind: Kind, value: object) -> bool:
    """Whether a value fits, its items aside."""
    bounds = kind.bounds
    match kind.name:
        case "none":
            return value is None
        case "bool":
            return isinstance(value, bool)
        case "int":
            return _is_number(value, int) and bounds.hold(value)
        case "float":
            return _is_number(value, (int, float)) and bounds.hold(value)
        case "str":
            return isinstance(value, str) and bounds.hold_length(len(value))
        case "literal":
            return any(type(value) is type(one) and value == one for one in kind.choices)
        case "tuple":
            return _is_list(value) and len(value) == len(kind.items)
        case "list":
            return _is_list(value) and bounds.hold_length(len(value))
        case _:
            return isinstance(value, Mapping) and bounds.hold_length(len(value))
