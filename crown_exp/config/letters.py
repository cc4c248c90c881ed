"""Texts of any origin on a terminal: made harmless, measured in columns, cut, folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

LONGEST = 20_000
"""Characters of a text that are looked at; no more fit on any screen."""


def plain(text: str) -> str:
    """The text on one line, without what a terminal obeys: that is shown as one types it, `\\n`, `\\x1b`."""
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text.expandtabs(4)
    )


def columns(text: str) -> int:
    """How many columns of a terminal a plain text takes: two for a wide letter, none for an accent."""
    return len(text) if text.isascii() else sum(map(width_of, text))


def width_of(letter: str) -> int:
    """The columns of one letter."""
    if letter.isascii():
        return 1
    from unicodedata import category, east_asian_width

    if category(letter) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(letter) in "WF" else 1


def cut(text: str, width: int) -> str:
    """At most `width` columns of a plain text, with `…` where the rest was."""
    if len(text) <= width and columns(text) <= width:
        return text
    kept, room = "", width - 1
    for letter in text:
        room -= width_of(letter)
        if room < 0:
            break
        kept += letter
    return f"{kept}…" if width > 0 else ""


def fold(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` columns, broken between words, and within one that is longer."""
    found = [""]
    for word in _pieces(plain(text).split(), width):
        joined = f"{found[-1]} {word}" if found[-1] else word
        if columns(joined) <= width:
            found[-1] = joined
        else:
            found.append(word)
    return found


def _pieces(words: Iterable[str], width: int) -> Iterator[str]:
    """Words no wider than `width`."""
    for word in words:
        piece, room = "", width
        for letter in word if columns(word) > width else ():
            room -= width_of(letter)
            if room < 0 and piece:
                yield piece
                piece, room = "", width - width_of(letter)
            piece += letter
        yield piece or word


def labelled(label: str, text: str, width: int) -> Iterator[str]:
    """A text folded beside its label; nothing if there is no text."""
    before = columns(label)
    for number, line in enumerate(fold(text, max(1, width - before)) if text else ()):
        yield f"{' ' * before if number else label}{line}"
