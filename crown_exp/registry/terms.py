"""Which runs, as people type it: `tag:paper state:failed,lost age<7d lr<0.01 min(loss)<0.2`. Pure.

    field:value    experiment, state (several by commas), tag (again for another), user, sweep, name, compute,
                   signature
    age<2d         also >; s, m, h, d
    name op value  op is one of < <= > >= = != ~ (contains); the name as in `Wanted`

Spaces around an operator are fine; what holds a space, a colon or an operator stands in double quotes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from crown_exp.config.nearest import did_you_mean, known_names
from crown_exp.config.units import parse_interval
from crown_exp.errors import ConfigError
from crown_exp.outcome import State
from crown_exp.registry.base import Condition, Filter, Operator, Statistic, Wanted

FIELDS = ("experiment", "state", "tag", "user", "sweep", "name", "compute", "signature")
STATISTICS: tuple[Statistic, ...] = ("last", "min", "max")

_TERM = re.compile(
    r"""\s*(?P<name>"[^"]+"|[^\s<>=!~:"]+) \s*(?P<op><=|>=|!=|[<>=~:])\s* (?P<value>"[^"]*"|[^\s"]+)""",
    re.VERBOSE,
)
_CALL = re.compile(r"(?P<statistic>[a-z]+)\((?P<name>.+)\)")
_EXPECTED = "expected terms like tag:paper, state:failed, age<7d, lr<0.01"


def parse_filter(text: str, base: Filter | None = None) -> Filter:
    """What the terms say, on top of `base`. Raises ConfigError for what is no term."""
    found, at = base or Filter(), 0
    text = text.rstrip()
    while at < len(text):
        term = _TERM.match(text, at)
        if term is None:
            raise ConfigError.of(text[at:].strip(), _EXPECTED)
        found = _with_term(found, *(_bare(term[part]) for part in ("name", "op", "value")))
        at = term.end()
    return found


def parse_wanted(text: str) -> Wanted:
    """`accuracy` or `min(loss)`. Raises ConfigError for another function."""
    call = _CALL.fullmatch(text.strip())
    if call is None:
        return Wanted(text.strip())
    statistic, name = call["statistic"], call["name"].strip()
    if statistic not in STATISTICS:
        raise ConfigError.of(text, f"{statistic} is not known; {known_names(STATISTICS)}")
    return Wanted(name, cast(Statistic, statistic))


def parse_age(text: str, where: str) -> timedelta:
    """`30m`, `12h`, `7 days`. Raises ConfigError naming `where` for anything else: steps are no age."""
    try:
        seconds = parse_interval(text, where).seconds
    except ConfigError:
        seconds = None
    if seconds is None:
        raise ConfigError.of(where, "expected an age like 30m, 12h, 7d")
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ConfigError.of(where, "nothing is that old") from None


def _bare(text: str) -> str:
    return text[1:-1] if text.startswith('"') else text


def _with_term(found: Filter, name: str, operator: str, value: str) -> Filter:
    if operator == ":":
        return _with_field(found, name, value)
    if name == "age":
        return _with_age(found, operator, value)
    condition = Condition(parse_wanted(name), cast(Operator, operator), _typed(value, operator))
    return replace(found, where=(*found.where, condition))


def _with_field(found: Filter, name: str, value: str) -> Filter:
    if name not in FIELDS:
        raise ConfigError.of(f"{name}:{value}", f"no such field; {did_you_mean(name, FIELDS)}")
    more: dict[str, Any] = {name: value}
    if name == "state":
        more = {"states": found.states | {_state(part) for part in value.split(",")}}
    elif name == "tag":
        more = {"tags": (*found.tags, value)}
    return replace(found, **more)


def _state(name: str) -> State:
    try:
        return State(name.strip().lower())
    except ValueError:
        raise ConfigError.of(
            f"state:{name}", f"no such state; {did_you_mean(name, State)}"
        ) from None


def _with_age(found: Filter, operator: str, value: str) -> Filter:
    where = f"age{operator}{value}"
    if operator not in ("<", "<=", ">", ">="):
        raise ConfigError.of(where, "expected something like age<7d or age>12h")
    age: Any = parse_age(value, where)
    return replace(found, **({"newer": age} if operator in ("<", "<=") else {"older": age}))


def _typed(value: str, operator: str) -> float | str:
    """A number where it is one; what is compared by size must be."""
    try:
        return value if operator == "~" else float(value)
    except ValueError:
        if operator in ("=", "!="):
            return value
        raise ConfigError.of(f"{operator}{value}", "expected a number") from None
