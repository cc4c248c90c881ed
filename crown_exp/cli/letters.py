"""Texts of any origin on a terminal: made harmless, measured in columns, cut, folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from crown_exp.config.letters import columns, cut, plain, width_of

__all__ = ["columns", "cut", "fold", "labelled", "plain"]


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
