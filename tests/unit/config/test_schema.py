"""The framework's keys."""

from __future__ import annotations

from crown_exp.config import schema
from crown_exp.config.kinds import kind_of_type
from crown_exp.config.values import check


def test_every_default_is_of_its_own_type() -> None:
    for key in schema.leaves():
        assert check(kind_of_type(key.type), key.default) is None, key.path


def test_every_key_is_told_in_a_line_that_begins_small() -> None:
    for key in schema.leaves():
        assert key.doc, key.path
        assert "\n" not in key.doc and not key.doc.endswith("."), key.path


def test_the_defaults_are_the_leaves() -> None:
    def flat(tree: dict[str, object], prefix: str = "") -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in tree.items():
            found |= (
                flat(value, f"{prefix}{name}.")
                if isinstance(value, dict) and value
                else {f"{prefix}{name}": value}
            )
        return found

    assert flat(schema.defaults()) == {key.path: key.default for key in schema.leaves()}


def test_two_trees_of_defaults_share_nothing() -> None:
    schema.defaults()["tags"].append("x")
    assert schema.defaults()["tags"] == []


def test_sections_and_plain_keys_are_the_top() -> None:
    assert set(schema.SECTIONS) | set(schema.PLAIN_KEYS) == set(schema.defaults())
    assert set(schema.FRAMEWORK_GROUPS) <= set(schema.SECTIONS)
    assert not set(schema.TARGET_GROUPS) & set(schema.defaults())
