"""Where a key gets its value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crown_exp.config import schema
from crown_exp.config.origin import line_of, schema_place

OK = "+experiment=ok"


def places(project: Any, key: str, *overrides: str) -> list[str]:
    """The chain of a key: the end of each place, or the override."""
    return [origin.place.rpartition("/")[2] for origin in project.chain(key, *overrides)]


def test_files_come_in_the_order_in_which_they_apply(project: Any) -> None:
    chain = project.chain("seed", OK, "seed=4")
    assert [origin.value for origin in chain] == [0, 3, 4]
    assert [origin.place for origin in chain][1:] == ["conf/experiment/ok.yaml:6", "seed=4"]
    assert [origin.is_override for origin in chain] == [False, False, True]
    assert chain[0].place.endswith(schema_place("seed").rpartition("/")[2])


def test_a_group_is_chosen_before_its_file_says_anything(project: Any) -> None:
    assert places(project, "optimizer.lr", OK, "optimizer=sgd") == ["sgd.yaml:2"]
    assert places(project, "optimizer", OK, "optimizer=sgd", "optimizer.lr=1") == [
        "optimizer=sgd", "sgd.yaml:1", "optimizer.lr=1",
    ]  # fmt: skip


def test_an_override_of_a_whole_section_counts_for_its_keys(project: Any) -> None:
    assert places(project, "limits.steps", OK, "limits={steps: 3}")[-1] == "limits={steps: 3}"
    assert places(project, "limits.run", OK, "limits={steps: 3}") == places(
        project, "limits.run", OK
    )


def test_a_key_that_nothing_sets_has_no_origin(project: Any) -> None:
    assert project.chain("nothing.at.all", OK) == []


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("a", 2),
        ("a.b", 3),
        ("a.b.1", 5),
        ("a.b.1.c", 5),
        ("d", 6),
        ("", 2),
        ("a.x", None),
        ("a.b.9", None),
    ],
)
def test_the_line_of_a_key(tmp_path: Path, key: str, line: int | None) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("# @package _global_\na:\n  b:\n    - 1\n    - c: 2\nd: 3\n")
    assert line_of(file, key) == line


def test_every_framework_key_has_its_line_in_the_schema() -> None:
    source = Path(schema.__file__).read_text().splitlines()
    for key in schema.leaves():
        line = int(schema_place(key.path).rpartition(":")[2])
        assert source[line - 1].startswith(f"    {key.path.rpartition('.')[2]}:")
