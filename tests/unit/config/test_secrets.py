"""Keys are put together here: written out, they would keep this very file from a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crown_exp.config.secrets import ALLOWED, HIDDEN, guard, guard_text, redact

HEX = "0123456789" * 4
AWS = "AKIA" + "Z7Q" * 5 + "9"
OPENAI = "sk-" + "proj-" + "aB3" * 12
HUGGING_FACE = "hf_" + "aB3" * 11
GITHUB = "ghp_" + "aB3" * 12
PEM = "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIE+/==\n-----END " + "RSA PRIVATE KEY-----"
SHAPED = [AWS, OPENAI, HUGGING_FACE, GITHUB, "github_pat_" + "1aB" * 20, PEM]
KNOWN = {"WANDB_API_KEY": HEX, "DB_PASSWORD": "correct horse"}


def nest(*path: str | int, value: object) -> Mapping[str, object]:
    for step in reversed(path):
        value = [None] * step + [value] if isinstance(step, int) else {step: value}
    assert isinstance(value, Mapping)
    return value


KEYS = ["api_key", "apikey", "API_KEY", "openai_api_key", "x-api-key", "client_secret", "secret"]
KEYS += ["db.password", "passwd", "aws_credential", "Authorization"]


@pytest.mark.parametrize("key", KEYS)
def test_a_value_under_a_key_that_names_a_secret_is_one(key: str) -> None:
    [problem] = guard({"tracker": {key: "swordfish"}}, {})
    assert problem.where == f"tracker.{key}"
    assert problem.what.startswith("looks like a secret")
    assert ".env" in problem.what
    assert "swordfish" not in str(problem)


@pytest.mark.parametrize("value", ["", None, True, {}, [], "WANDB_API_KEY"])
def test_nothing_and_the_name_of_a_secret_are_none(value: object) -> None:
    assert guard({"api_key": value}, KNOWN) == []


def test_a_number_may_be_a_password() -> None:
    assert [problem.where for problem in guard({"password": 12345}, {})] == ["password"]


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        ("<pad>", False),
        ("<|endoftext|><|endoftext|>", False),
        ("[unused_token_100]", False),
        ("short", False),
        (50256, False),
        ("a" * 15, False),
        ("a" * 16, True),
    ],
)
def test_a_special_token_is_no_secret_and_a_long_one_is(value: object, refused: bool) -> None:
    assert bool(guard({"tokenizer": {"pad_token": value}}, {})) is refused


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("postgresql+psycopg://me:hunter2@db/x", True),
        ("https://me:pa@ss@host", True),
        ("postgresql://me@db/x", False),
        ("postgresql://me:***@db/x", False),
        ("http://localhost:8080/a@b", False),
        ("s3://bucket/a:b@c", False),
    ],
)
def test_a_url_with_a_password_is_refused(url: str, refused: bool) -> None:
    problems = guard({"data": {"source": url}}, {})
    assert bool(problems) is refused
    assert not any("hunter2" in str(problem) for problem in problems)


@pytest.mark.parametrize("text", SHAPED)
def test_a_well_known_shape_is_refused_anywhere(text: str) -> None:
    config = {"a": [{"note": f"use {text} here"}], "b": {"nothing": 1}}
    [problem] = guard(config, {})
    assert problem.where == "a[0].note"
    assert text not in str(problem)
    found = guard_text("notes.txt", f"x\nuse {text}\n".encode(), {})
    assert found is not None
    assert found.where == "notes.txt"
    assert text not in str(found)
    assert text not in redact(f"use {text}.", {})


def test_forty_hexadecimal_digits_are_a_commit_unless_wandb_stands_there() -> None:
    assert guard({"code": {"commit": HEX}}, {}) == []
    assert [problem.where for problem in guard({"wandb": {"login": HEX}}, {})] == ["wandb.login"]
    assert guard_text("x.py", f"commit = '{HEX}'".encode(), {}) is None
    assert guard_text("x.py", f"wandb @ git+https://x/wandb@{HEX}".encode(), {}) is None
    assert guard_text("x.py", f"wandb.login(key='{HEX}')".encode(), {}) is not None
    assert guard_text("x.sh", f"export WANDB_API_KEY={HEX}".encode(), {}) is not None
    assert redact(f"wandb.login(key='{HEX}')", {}) == f"wandb.login(key='{HIDDEN}')"


@pytest.mark.parametrize(
    "text",
    [
        "AKIA" + "IOSFODNN7EXAMPLE",  # the one of Amazon's handbooks
        "<div class='sk-toggleable__label-arrow sk-estimator-doc-link'>",
        "hf_hub_download, hf_model_name_or_path_to_it_all",
        f"key = '{AWS}'  # {ALLOWED}",
    ],
)
def test_what_only_resembles_a_secret_passes(text: str) -> None:
    assert guard_text("x.py", text.encode(), {}) is None
    assert guard({"x": text}, {}) == []


def test_the_mark_excuses_its_own_line_only_and_never_a_known_value() -> None:
    text = f"a = '{AWS}'  # {ALLOWED}\nb = '{AWS}'\n"
    assert guard_text("x.py", text.encode(), {}) is not None
    assert guard_text("x.py", f"'{HEX}'  # {ALLOWED}".encode(), KNOWN) is not None


def test_a_known_value_is_found_in_values_names_paths_and_bytes() -> None:
    config = {
        "a": {"header": f"Bearer {HEX}"},
        "b": {f"x{HEX}": {"c": 1}},
        "d": Path("/tmp") / HEX,
    }
    problems = guard(config, KNOWN)
    assert [problem.where for problem in problems] == ["a.header", f"b.x{HIDDEN}", "d"]
    assert HEX not in str(problems)
    found = guard_text("data.bin", b"\x00\xff" + HEX.encode() + b"\xfe", KNOWN)
    assert found is not None
    assert "WANDB_API_KEY" in found.what


def test_every_place_is_told_once() -> None:
    config = {"api_key": HEX, "list": ["x", {"secret": OPENAI}], "fine": 1}
    assert [problem.where for problem in guard(config, KNOWN)] == ["api_key", "list[1].secret"]


def test_a_file_name_cannot_forge_lines() -> None:
    found = guard_text("a\nb", HEX.encode(), KNOWN)
    assert found is not None
    assert "\n" not in str(found)


def test_redaction_hides_what_is_known_and_keeps_the_rest() -> None:
    known = {"A_TOKEN": "12345678", "B_TOKEN": "1234567890"}
    assert redact("a 1234567890 b 12345678", known) == f"a {HIDDEN} b {HIDDEN}"
    assert redact("postgresql://me:hunter2@db/x", {}) == f"postgresql://me:{HIDDEN}@db/x"
    assert redact("nothing to hide", known) == "nothing to hide"
    assert redact("", {"EMPTY": ""}) == ""


steps = st.lists(
    st.one_of(st.text("abcxyz_", min_size=1, max_size=6), st.integers(0, 2)), max_size=4
)
values = st.text("abcXYZ0189+/=-", min_size=8, max_size=40)


@settings(max_examples=60)
@given(path=steps, secret=values, around=st.tuples(st.text(), st.text()))
def test_a_known_value_is_found_at_any_depth_and_never_shown(
    path: list[str | int], secret: str, around: tuple[str, str]
) -> None:
    config = nest("root", *path, value=around[0] + secret + around[1])
    [problem] = guard(config, {"X_TOKEN": secret})
    assert secret not in problem.where + problem.what
    assert "X_TOKEN" in problem.what


@settings(max_examples=60)
@given(
    known=st.dictionaries(st.text("ABC", min_size=1), values, max_size=4),
    pieces=st.lists(st.text(), min_size=5, max_size=5),
)
def test_no_known_value_survives_redaction_and_twice_is_once(
    known: dict[str, str], pieces: list[str]
) -> None:
    text = "".join(part + value for part, value in zip(pieces, [*known.values(), ""], strict=False))
    clean = redact(text, known)
    assert not any(value in clean for value in known.values())
    assert redact(clean, known) == clean
