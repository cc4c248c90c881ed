from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crown_exp.config.nearest import did_you_mean, edits, nearest

WORDS = """
amsgrad attempt batch_size betas budget channels checkpoint classes code compute confirm_above_usd
dataset debug depth device dropout eps eta_min every experiment hidden identity ignore keep
last_epoch layers learning_rate limits lr lr_schedule max_steps model momentum month_usd name
nesterov num_layers num_workers optimizer precision resume reuse run_usd seed split steps sweep
T_max tags task test_fraction tracker warmup_steps weight_decay width
"""
KEYS = WORDS.split()
LETTERS = "abcdefghijklmnopqrstuvwxyz_"


@st.composite
def typos(draw: st.DrawFn) -> tuple[str, str]:
    """A key and the key with one edit: a letter dropped, doubled, replaced, or two swapped."""
    key = draw(st.sampled_from(KEYS))
    at = draw(st.integers(0, len(key) - 1))
    head, tail = key[:at], key[at + 1 :]
    edit = draw(st.sampled_from(["drop", "double", "swap", "replace"]))
    if edit == "drop":
        return key, head + tail
    if edit == "double":
        return key, head + key[at] * 2 + tail
    if edit == "swap":
        return key, head + tail[:1] + key[at] + tail[1:]
    return key, head + draw(st.sampled_from(LETTERS)) + tail


@given(typos())
def test_the_right_name_of_a_typo_comes_first(pair: tuple[str, str]) -> None:
    key, typo = pair
    found = nearest(typo, KEYS)
    as_near = {other for other in KEYS if edits(typo, other) <= edits(typo, key)}
    assert found
    assert found[0] in as_near
    if as_near == {key}:
        assert found[0] == key


@given(st.text(LETTERS, max_size=12), st.lists(st.text(LETTERS, max_size=12), max_size=8))
def test_nearest_gives_some_of_the_known_names_once(typed: str, known: list[str]) -> None:
    found = nearest(typed, known)
    assert set(found) <= set(known)
    assert len(found) == len(set(found)) <= 3
    assert found == nearest(typed, reversed(known))


@given(st.text(max_size=10), st.text(max_size=10))
def test_edits_is_a_distance(left: str, right: str) -> None:
    assert edits(left, right) == edits(right, left)
    assert (edits(left, right) == 0) == (left == right)
    assert abs(len(left) - len(right)) <= edits(left, right) <= max(len(left), len(right))


@given(st.text(LETTERS, min_size=1, max_size=10), st.data())
def test_one_edit_is_one(word: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(word) - 1))
    assert edits(word, word[:at] + word[at + 1 :]) == 1
    assert edits(word, word[:at] + word[at] + word[at:]) == 1
    swapped = word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :]
    assert edits(word, swapped) == (0 if swapped == word else 1)


def test_best_first() -> None:
    assert nearest("wieght_decay", KEYS)[0] == "weight_decay"
    assert nearest("AdmW", ["Adam", "AdamW", "NAdam", "SGD"])[:2] == ["AdamW", "Adam"]
    assert nearest("lr", ["lr_schedule", "lt", "lrs"]) == ["lrs", "lt", "lr_schedule"]


def test_case_and_separators_hardly_count() -> None:
    assert nearest("BatchSize", KEYS)[0] == "batch_size"
    assert nearest("batch-size", ["batch_sizes", "batch_size"])[0] == "batch_size"
    assert nearest("t_max", KEYS)[0] == "T_max"
    assert nearest("checkpoint_every", ["checkpoint.every", "checkpoints.every"])[0] == (
        "checkpoint.every"
    )


def test_a_beginning_or_a_part_is_enough() -> None:
    assert nearest("confirm", KEYS) == ["confirm_above_usd"]
    assert nearest("decay", KEYS) == ["weight_decay"]


def test_nothing_absurd() -> None:
    assert nearest("banana", KEYS) == []
    assert nearest("zz", ["lr", "eps"]) == []
    assert nearest("", KEYS) == []


def test_what_is_said() -> None:
    assert did_you_mean("stepz", ["steps", "seed"]) == "did you mean steps?"
    assert did_you_mean("lt", ["lr", "ls"]) == "did you mean lr or ls?"
    assert did_you_mean("lt", ["lr", "ls", "la"]) == "did you mean la, lr or ls?"
    assert did_you_mean("banana", ["steps", "lr"]) == "known: lr, steps"
    assert did_you_mean("banana", []) == ""
    many = [f"key{at:02}" for at in range(20)]
    assert did_you_mean("banana", many).endswith("key10, key11 and 8 more")
