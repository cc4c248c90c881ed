"""Secrets that were about to leave: in a config, in a file of the code snapshot, in a text.

A secret is a value that the environment says is one (`settings.known_secrets`), a string of a
well-known shape (an AWS key, a GitHub token, …), or a value under a key that names one (`api_key`).
No message here holds a secret's value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from crown_exp.errors import Problem

ALLOWED = "pragma: allowlist secret"
"""A line with this text holds no secret, whatever its shape (detect-secrets' mark as well)."""

HIDDEN = "***"
"""What `redact` puts in a secret's place."""

TOKEN_LENGTH = 16
"""A shorter value under `…token` is taken for a special token of a tokenizer."""

_KEY = re.compile(
    r"(?:^|[._-])(api[_-]?key|secret|password|passwd|credential|authorization)$", re.I
)
_TOKEN_KEY = re.compile(r"token$", re.I)
_SPECIAL_TOKEN = re.compile(r"<.*>|\[.*\]", re.DOTALL)
_URL_PASSWORD = re.compile(
    r"(?P<before>[a-z][a-z0-9+.-]{0,30}://[^\s/?#@:]{0,200}:)(?!\*+@)[^\s/?#]+(?=@)", re.I
)
_WANDB_KEY = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Shape:
    """A kind of secret that is known by its looks.

    anchor: what every one holds, in lower case. pattern: its group `before` is no part of it.
    """

    name: str
    anchor: str
    pattern: re.Pattern[str]


SHAPES = tuple(
    Shape(name, anchor, re.compile(pattern, re.ASCII))
    for name, anchor, pattern in (
        ("an AWS access key", "akia", r"\bAKIA[0-9A-Z]{16}\b(?<!EXAMPLE)"),
        # a digit and a capital, so that scikit-learn's CSS classes (sk-toggleable__label) are none
        ("an API key", "sk-", r"\bsk-(?=[\w-]{0,200}\d)(?=[\w-]{0,200}[A-Z])[\w-]{20,}"),
        ("a Hugging Face token", "hf_", r"\bhf_[A-Za-z0-9]{30,}\b"),
        ("a GitHub token", "ghp_", r"\bghp_[A-Za-z0-9]{36,}\b"),
        ("a GitHub token", "github_pat_", r"\bgithub_pat_\w{50,}"),
        (
            "a W&B key",
            "wandb",  # a commit is 40 hexadecimal digits too: only beside a word that says key
            r"(?P<before>(?i:wandb[^\r\n@]{0,40}?(?:key|login|token))[^\r\n@]{0,20}?)\b[0-9a-f]{40}\b",
        ),
        (
            "a private key",
            "private key",
            r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY-----(?:[^-]*-----END [A-Z ]*KEY-----)?",
        ),
    )
)


def guard(config: Mapping[str, object], secrets: Mapping[str, str]) -> list[Problem]:
    """Every place of a resolved config that looks like a secret, each with the first reason found.

    config: nested mappings and sequences. secrets: name and value of those in the environment.
    The name of one of them is no secret, under any key.
    """
    advice = "keep it in the environment (.env) and name it, for example api_key_env: MY_API_KEY"
    return [
        Problem(path, f"looks like a secret ({reason}); {advice}")
        for path, key, value in _leaves(config, "", "", secrets)
        if (reason := _reason(path, key, value, secrets))
    ]


def secrets_in(config: Mapping[str, object], secrets: Mapping[str, str]) -> dict[str, str]:
    """What `guard` refuses: the text of each value by its place. To be hidden, never to be shown."""
    return {
        path: str(value)
        for path, key, value in _leaves(config, "", "", secrets)
        if _reason(path, key, value, secrets)
    }


def guard_text(name: str, data: bytes, secrets: Mapping[str, str]) -> Problem | None:
    """The secret in a file that was about to be stored, if there is one. `name` is shown."""
    known = next((key for key, value in secrets.items() if value.encode() in data), None)
    # latin-1: any bytes are text, and what the shapes look for is ASCII
    reason = f"holds the value of {known}" if known else _shape(data.decode("latin-1"))
    if reason is None:
        return None
    way_out = "" if known else f"; if it is none, put '{ALLOWED}' into its line"
    return Problem(
        name if name.isprintable() else ascii(name),
        f"looks like a secret ({reason}); keep it in the environment (.env) and name it{way_out}",
    )


def redact(text: str, secrets: Mapping[str, str]) -> str:
    """The text with `***` for known secrets, what has a known shape, and passwords in URLs."""
    for value in sorted(filter(None, secrets.values()), key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    for pattern in (*(shape.pattern for shape in SHAPES), _URL_PASSWORD):
        text = pattern.sub(lambda match: match.groupdict().get("before", "") + HIDDEN, text)
    return text


def redact_override(override: str, found: Mapping[str, str], secrets: Mapping[str, str]) -> str:
    """An override `key=value` with `***` for a value that is a secret where it was set, and as `redact`.

    found: the secrets of the config that it made, as `secrets_in`: however one was quoted, it is not shown.
    """
    key, equals, value = override.partition("=")
    place = key.lstrip("+~")
    inside = (f"{place}.", f"{place}[")
    if place in found or (value[:1] in ("{", "[") and any(it.startswith(inside) for it in found)):
        value = HIDDEN
    return f"{redact(key, secrets)}{equals}{redact(value, {**secrets, **found})}"


def _leaves(
    value: object, path: str, key: str, secrets: Mapping[str, str]
) -> Iterator[tuple[str, str, object]]:
    """(path, innermost name, value) of every value, and of every name that is itself a secret."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            shown = redact(str(name), secrets)
            inner = f"{path}.{shown}" if path else shown
            if shown != str(name):
                yield inner, "", str(name)
            yield from _leaves(item, inner, shown, secrets)
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]", key, secrets)
    else:
        yield path, key, value


def _reason(path: str, key: str, value: object, secrets: Mapping[str, str]) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return "a number under a key that names one" if _KEY.search(key) else None
    text = str(value) if isinstance(value, str | PurePath) else ""
    if not text or text in secrets:
        return None
    if known := next((name for name, secret in secrets.items() if secret in text), None):
        return f"it holds the value of {known}"
    if _KEY.search(key):
        return "a value under a key that names one"
    if _TOKEN_KEY.search(key) and len(text) >= TOKEN_LENGTH and not _SPECIAL_TOKEN.fullmatch(text):
        return f"{TOKEN_LENGTH} characters or more under a key that ends in token"
    if _URL_PASSWORD.search(text):
        return "a URL with a password"
    if "wandb" in path.lower() and _WANDB_KEY.fullmatch(text):
        return "it is shaped like a W&B key"
    return _shape(text)


def _shape(text: str) -> str | None:
    """What the text holds by its looks, lines that are marked as harmless left out."""
    folded = text.lower()
    for shape in SHAPES:
        if shape.anchor in folded and any(
            ALLOWED not in _line(text, match) for match in shape.pattern.finditer(text)
        ):
            return f"it is shaped like {shape.name}"
    return None


def _line(text: str, match: re.Match[str]) -> str:
    start = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    return text[start : len(text) if end < 0 else end]
