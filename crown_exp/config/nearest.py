"""The names a typo may have meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from crown_exp.config.letters import cut, plain

SHOWN = 12
"""How many known names are listed when none is near."""
LONGEST = 80
"""Columns of a name that are shown."""
COMPARED = 200
"""Letters of a name that are compared: what it costs grows with their square."""


def nearest(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The known names that `name` may stand for, best first; empty if none is near.

    Near is a small edit distance (case and `-`, `_`, `.` cost nothing or next to it), or a known
    name that begins with or contains what was typed.
    """
    ranked = [(rank, other) for other in dict.fromkeys(known) if (rank := _rank(name, other))]
    return [other for _, other in sorted(ranked)[:limit]]


def did_you_mean(name: str, known: Iterable[str], limit: int = 3) -> str:
    """`did you mean a, b or c?`, else `known: …` (at most twelve names), else nothing."""
    names = list(known)
    if near := nearest(name, names, limit):
        return f"did you mean {either(near)}?"
    return known_names(names)


def known_names(names: Iterable[str]) -> str:
    """`known: a, b, c`, sorted and cut off at twelve; empty if there are none."""
    ordered = sorted(set(names))
    listed = ", ".join(map(_shown, ordered[:SHOWN]))
    more = len(ordered) - SHOWN
    tail = f" and {more} more" if more > 0 else ""
    return f"known: {listed}{tail}" if ordered else ""


def either(names: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`; each harmless to a terminal, and cut if it is long."""
    *head, last = map(_shown, names)
    return f"{', '.join(head)} or {last}" if head else last


def _shown(name: str) -> str:
    return cut(plain(name), LONGEST)


def _rank(name: str, other: str) -> tuple[float, float, float, int] | None:
    """What to sort by: distance, exact distance, unlikeness, shared beginning; None: not near."""
    name, other = name[:COMPARED], other[:COMPARED]
    typed, meant = _folded(name), _folded(other)
    bare, target = typed.replace("_", ""), meant.replace("_", "")
    longest = max(len(typed), len(meant))
    allowed = 1 if longest <= 3 else max(2, longest // 3)
    part = bool(bare) and (target.startswith(bare) or (len(bare) >= 3 and bare in target))
    if bare == target:
        near = 0
    elif abs(len(typed) - len(meant)) > allowed and not part:
        return None
    else:
        near = edits(typed, meant)
    if near > allowed and not part:
        return None
    from difflib import SequenceMatcher

    unlike = 1 - SequenceMatcher(None, typed, meant).ratio()
    return near, edits(name, other), unlike, -_shared(typed, meant)


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_").replace(".", "_")


def _shared(left: str, right: str) -> int:
    """How many characters two names have in common from the start."""
    for at, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return at
    return min(len(left), len(right))


def edits(left: str, right: str) -> int:
    """Optimal string alignment: insertions, deletions, replacements, swaps of neighbours.

    Source: the restricted Damerau-Levenshtein distance (Damerau 1964; Wagner and Fischer 1974).
    """
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        oldest, before, row = before, row, [i]
        for j, b in enumerate(right, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                best = min(best, oldest[j - 2] + 1)
            row.append(best)
    return row[-1]
