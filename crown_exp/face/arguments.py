"""What a caller hands in. Of the wrong type: a TypeError, as all over Python; a wrong value: a ConfigError."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

from crown_exp.errors import ConfigError
from crown_exp.registry.base import MOST


def text(name: str, value: object) -> str:
    """A text. Raises TypeError naming the argument."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a text, got {_shown(value)}")
    return value


def names(name: str, value: object) -> tuple[str, ...]:
    """A list of texts; one text alone is none. Raises TypeError naming the argument."""
    if not isinstance(value, Sequence) or not all(isinstance(it, str) for it in value):
        raise TypeError(f"{name}: expected a list of names, got {_shown(value)}")
    if isinstance(value, str):
        raise TypeError(f"{name}: expected a list of names, such as [{value!r}], got a text")
    return tuple(value)


def count(name: str, value: object, least: int) -> int | None:
    """A whole number from `least` on, of NumPy as well; None stays. Raises TypeError or ConfigError."""
    if value is None:
        return None
    try:
        number = None if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name}: expected a whole number or None, got {_shown(value)}")
    if not least <= number <= MOST:
        raise ConfigError.of(
            name, f"expected a number from {least} to {MOST}, got {_number(number)}"
        )
    return number


def _shown(value: object) -> str:
    """A value in a few characters, whatever it holds."""
    try:
        said = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    return said if len(said) <= 40 and said.isprintable() else f"a {type(value).__name__}"


def _number(number: int) -> str:
    return str(number) if number.bit_length() <= 64 else f"one of {number.bit_length()} bits"
