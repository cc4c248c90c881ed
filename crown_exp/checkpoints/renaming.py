"""Names of tensors there as names here: `checkpoint.init_map`, and what fits where. Pure.

A rule is held against the beginning of a name, at a dot; of several the longest wins:

    {"encoder": "backbone"}   encoder.0.weight -> backbone.0.weight
    {"head": None}            head.weight is not taken
    {"module": "."}           module.head.weight -> head.weight
    {".": "net.body"}         head.weight -> net.body.head.weight

A rule that begins no whole name is held against names within the tracked modules: net.encoder.0.weight is
then net.backbone.0.weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crown_exp.errors import ConfigError

WHERE = "checkpoint.init_map"
SHOWN = 3
COMPARED = 300
"""Names of each side that are looked at for the nearest: what it costs grows with their square."""


@dataclass(frozen=True)
class Renamed:
    """here: what each tensor there is called here, by its name there. left: those that a rule leaves out."""

    here: Mapping[str, str]
    left: tuple[str, ...]


def rules_of(typed: Mapping[Any, str | None]) -> dict[str, str | None]:
    """The rules as they were typed, where a number may stand for a part, and a dot for no beginning at all."""
    return {
        nothing_of(str(there)): None if here is None else nothing_of(str(here))
        for there, here in typed.items()
    }


def nothing_of(name: str) -> str:
    """A beginning; "" for a dot."""
    return "" if name == "." else name


def renamed(names: Collection[str], typed: Mapping[Any, str | None]) -> Renamed:
    """Every name by the rules, as they were typed.

    A name that a rule made wins over the same name that none has touched, which is then not taken. Raises
    ConfigError for a rule that begins no name, and if two rules make one name of two.
    """
    rules = rules_of(typed)
    within = {rule for rule in rules if not any(begins(rule, name) for name in names)}
    refuse_idle(within, names)
    made: dict[str, str] = {}
    plain: list[str] = []
    left: list[str] = []
    for name in names:
        rule, rest_from = rule_of(name, rules, within)
        if rule is None:
            plain.append(name)
        elif (new := rules[rule]) is None:
            left.append(name)
        else:
            inside = joined(new, after(rule, name[rest_from:]))
            made[name] = joined(name[:rest_from].removesuffix("."), inside)
    refuse_twins(made)
    taken = set(made.values())
    left += [name for name in plain if name in taken]
    gone = set(left)
    here = {name: made.get(name, name) for name in names if name not in gone}
    return Renamed(here, tuple(left))


def rule_of(name: str, rules: Iterable[str], within: Collection[str]) -> tuple[str | None, int]:
    """The longest rule that begins a name, and from which letter on; (None, 0) if none does.

    within: the rules that are held against what stands behind the name of the tracked module.
    """
    inner = name.find(".") + 1
    starts = {rule: inner if rule in within else 0 for rule in rules}
    fit = [rule for rule, start in starts.items() if begins(rule, name[start:])]
    if not fit:
        return None, 0
    rule = max(fit, key=lambda rule: (starts[rule] + len(rule), len(rule)))
    return rule, starts[rule]


def begins(rule: str, name: str) -> bool:
    """Whether a rule is a name, or its beginning up to a dot."""
    return not rule or name == rule or name.startswith(f"{rule}.")


def after(rule: str, name: str) -> str:
    """What stands in a name behind a rule and its dot."""
    return name[len(rule) :].removeprefix(".") if rule else name


def joined(*parts: str) -> str:
    """Names with dots between them."""
    return ".".join(filter(None, parts))


def refuse_idle(rules: Iterable[str], names: Collection[str]) -> None:
    """Raises ConfigError for the first of some rules that begins no name within a module."""
    for rule in rules:
        if not any(begins(rule, inner_of(name)) for name in names):
            tops = {part for name in names for part in beginnings(name)}
            raise ConfigError.of(f"{WHERE}.{rule}", f"begins no name there; {_known(rule, tops)}")


def _known(rule: str, tops: Collection[str]) -> str:
    """What names there begin with: the nearest, or the first."""
    from difflib import get_close_matches

    if near := get_close_matches(rule, tops, n=1):
        return f"did you mean {near[0]}?"
    return f"they begin with {few(sorted(tops, key=lambda top: (top.count('.'), top)))}"


def refuse_twins(made: Mapping[str, str]) -> None:
    """Raises ConfigError if two names became one."""
    twice = next((new for new, count in Counter(made.values()).items() if count > 1), None)
    if twice is not None:
        both = [name for name, new in made.items() if new == twice]
        what = f"makes {twice} of both {both[0]} and {both[1]}; leave one out: {both[1]}: null"
        raise ConfigError.of(WHERE, what)


def inner_of(name: str) -> str:
    """A name within the tracked module; "" if there is nothing behind its name."""
    return name.partition(".")[2]


def beginnings(name: str) -> list[str]:
    """With what rules could begin it: one or two parts of it, from its start and within its module."""
    first, _, rest = name.partition(".")
    second = rest.partition(".")[0]
    return [part for part in (first, second, joined(first, second)) if part]


# --- what fits where ------------------------------------------------------------------------------------


def fitting(
    module: str, places: Collection[str], there: Mapping[str, str], *, bare: bool
) -> dict[str, str]:
    """Of each place of a tracked module that has a tensor there: the name of that, in the order of places.

    module: the name that it is tracked under. there: names there by their names here. bare: names there may
    lack the name of the tracked module; of both ways that one is taken which fits more.
    """
    whole = {place: there[name] for place in places if (name := joined(module, place)) in there}
    if not bare:
        return whole
    short = {place: there[place] for place in places if place in there}
    return short if len(short) > len(whole) else whole


def nearest(here: Sequence[str], there: Sequence[str]) -> tuple[str, str] | None:
    """The names, one of each side, that have most of their ends in common; None if none has any."""
    by_end: dict[str, list[str]] = {}
    for name in there[:COMPARED]:
        by_end.setdefault(name.rpartition(".")[2], []).append(name)
    best: tuple[int, str, str] | None = None
    for ours in here[:COMPARED]:
        for theirs in by_end.get(ours.rpartition(".")[2], ()):
            length = common_end(ours, theirs)
            if best is None or length > best[0]:
                best = (length, ours, theirs)
    return (best[1], best[2]) if best else None


def common_end(one: str, other: str) -> int:
    """How many parts of two names are the same, from the end."""
    count = 0
    for a, b in zip(reversed(one.split(".")), reversed(other.split(".")), strict=False):
        if a != b:
            break
        count += 1
    return count


def suggested(ours: str, theirs: str) -> tuple[str, str]:
    """The rule (there, here) that makes one name of the other."""
    shared = common_end(ours, theirs)
    here, there = ours.split("."), theirs.split(".")
    return ".".join(there[: len(there) - shared]), ".".join(here[: len(here) - shared])


def few(names: Collection[str]) -> str:
    """The first of them, and how many more."""
    shown = list(names)[:SHOWN]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(shown)}{more}"
