"""What docstrings say about parameters: Google, numpy and Sphinx style, one sentence each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from inspect import cleandoc

GOOGLE = re.compile(
    r"\s*(?:Args|Arguments|Parameters|Params|Keyword Arg(?:ument)?s|Attributes):\s*"
)
NUMPY = ("Parameters", "Other Parameters", "Attributes")
ENTRY = re.compile(r"(\*{0,2}\w+(?:,\s*\*{0,2}\w+)*)\s*(?:\(.*?\))?\s*:(?:\s+(.*)|$)")
NUMPY_ENTRY = re.compile(r"(\*{0,2}\w+(?:,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
SPHINX = re.compile(
    r"\s*:(?:param|parameter|arg|argument|key|keyword)\s+(?:.*\s)?\*{0,2}(\w+):\s*(.*)"
)
DEFAULT = re.compile(
    r"\s*\(defaults?\b(?:[^()]|\([^()]*\))*\)|[\s.,;]*\bdefault(?: is|:|s to:?)\s+\S+\s*$",
    re.IGNORECASE,
)
ROLE = re.compile(r":\w+:`~?([^`]+)`|`{1,2}([^`]+)`{1,2}_{0,2}")
SENTENCE = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bvs)(?<!\betc)\.\s+(?=[A-Z`(\"'*:])|\n\s*\n"
)


def parameter_docs(text: str) -> dict[str, str]:
    """The first sentence about each parameter that a docstring describes."""
    lines = cleandoc(text).splitlines()
    docs: dict[str, str] = {}
    for names, words in (*_google(lines), *_numpy(lines), *_sphinx(lines)):
        for name in names.split(","):
            docs.setdefault(name.strip().lstrip("*"), first_sentence(words))
    return {name: doc for name, doc in docs.items() if doc}


def first_sentence(text: str) -> str:
    """The first sentence, on one line, without markup, its default and its full stop."""
    paragraph = SENTENCE.split(text.strip(), maxsplit=1)[0]
    plain = ROLE.sub(lambda found: found[1] or found[2], DEFAULT.sub("", paragraph))
    return " ".join(plain.split()).rstrip(".")


def constant_text(node: ast.expr | None) -> str:
    """The pieces of a string expression that are constants: what `X.__doc__ = "…" + …` says."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return constant_text(left) + constant_text(right)
        case ast.BinOp(op=ast.Mod(), left=left):
            return constant_text(left)
        case ast.JoinedStr(values=values):
            return "".join(constant_text(value) for value in values)
        case ast.Call(func=ast.Attribute(value=owner, attr="format")):
            return constant_text(owner)
        case ast.Call(args=[first, *_]):
            return constant_text(first)
    return ""


Entries = Iterator[tuple[str, str]]


def _google(lines: list[str]) -> Entries:
    for at, line in enumerate(lines):
        if GOOGLE.fullmatch(line):
            block = _block(lines[at + 1 :], above=_indent(line))
            yield from _entries(block, ENTRY)


def _numpy(lines: list[str]) -> Entries:
    for at, line in enumerate(lines[:-1]):
        if line.strip() in NUMPY and _is_rule(lines[at + 1]):
            block = lines[at + 2 :]
            end = next((i for i, one in enumerate(block) if _is_rule(one)), len(block) + 1)
            yield from _entries(block[: end - 1], NUMPY_ENTRY)


def _sphinx(lines: list[str]) -> Entries:
    for at, line in enumerate(lines):
        if found := SPHINX.fullmatch(line):
            more = _block(lines[at + 1 :], above=_indent(line))
            yield found[1], "\n".join([found[2], *more])


def _entries(block: list[str], pattern: re.Pattern[str]) -> Entries:
    """The entries of a section: each begins at the section's own indent, its text lies deeper."""
    said = [line for line in block if line.strip()]
    if not said:
        return
    margin = _indent(said[0])
    for at, line in enumerate(block):
        found = pattern.match(line.strip()) if line.strip() and _indent(line) == margin else None
        if found:
            rest = _block(block[at + 1 :], above=margin)
            first = (found[2] or "") if pattern.groups > 1 else ""
            yield found[1], "\n".join([first, *rest])


def _block(lines: list[str], above: int) -> list[str]:
    """The lines until one that is not indented more than `above`."""
    end = next(
        (at for at, line in enumerate(lines) if line.strip() and _indent(line) <= above), len(lines)
    )
    return lines[:end]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_rule(line: str) -> bool:
    return len(line.strip()) >= 3 and set(line.strip()) == {"-"}
