"""Texts of any origin on one line of a terminal: made harmless, measured in columns, cut."""

from __future__ import annotations

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
