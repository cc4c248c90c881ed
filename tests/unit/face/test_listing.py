"""`crown_exp.runs`: many runs, as Python sees them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest

import crown_exp
from crown_exp.errors import ConfigError, CrownError


def test_a_list_of_runs(ids: list[str]) -> None:
    runs = crown_exp.runs()
    assert isinstance(runs, Sequence)
    assert [run.id for run in runs] == ids[::-1]
    assert (len(runs), runs[0].id, runs[-1].id) == (3, ids[2], ids[0])
    assert [run.id for run in runs[1:]] == [ids[1], ids[0]]
    assert len(runs[:2][1:]) == 1
    assert runs[1] in runs
    with pytest.raises(IndexError):
        runs[3]


def test_filter_sort_limit(ids: list[str]) -> None:
    assert [run.id for run in crown_exp.runs("tag:paper", sort="accuracy")] == ids[:2]
    assert [run.id for run in crown_exp.runs("factor>1.5", sort="-min(loss)", limit=1)] == [ids[2]]
    assert len(crown_exp.runs("state:failed")) == 0


def test_columns_are_read_along(ids: list[str]) -> None:
    (run,) = crown_exp.runs("factor=2", columns=["min(loss)", "model.width", "text"])
    assert run.values == {"min(loss)": 0.5, "model.width": 3, "text": "plain"}
    assert run.config["task"]["factor"] == 2.0
    assert run.values["min(loss)"] == 0.5


def test_mistakes(ids: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"did you mean tag\?"):
        crown_exp.runs("tga:x")  # at once, before anything is read
    runs = crown_exp.runs(sort="nope")
    with pytest.raises(ConfigError, match="nope"):
        len(runs)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"limit": 10**30}, ConfigError, "limit: expected a number from 0 to 2147483647, got one of"),
        ({"limit": 10**5000}, ConfigError, "limit: expected a number from 0 to 2147483647, got one of"),
        ({"limit": -1}, ConfigError, "limit: expected a number from 0 to 2147483647, got -1"),
        ({"limit": "x"}, TypeError, "limit: expected a whole number or None, got 'x'"),
        ({"limit": 1.0}, TypeError, "limit: expected a whole number or None, got 1.0"),
        ({"limit": True}, TypeError, "limit: expected a whole number or None, got True"),
        ({"limit": "x" * 1000}, TypeError, "limit: expected a whole number or None, got a str"),
        ({"terms": None}, TypeError, "terms: expected a text, got None"),
        ({"sort": 1}, TypeError, "sort: expected a text, got 1"),
        ({"columns": "lr"}, TypeError, "columns: expected a list of names, such as ['lr'], got a text"),
        ({"columns": ["lr", 1]}, TypeError, "columns: expected a list of names, got ['lr', 1]"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_one_line_at_once(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        crown_exp.runs(**arguments)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_what_counts_as_a_limit(ids: list[str]) -> None:
    numpy = pytest.importorskip("numpy")
    found = [len(crown_exp.runs(limit=it)) for it in (0, numpy.int64(2), 2**31 - 1, None)]
    assert found == [0, 2, 3, 3]


def test_nothing_is_read_twice_but_by_refresh(
    ids: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = crown_exp.runs("name:line")
    first = runs[0]
    assert runs[0] is first
    assert runs.refresh() is runs
    assert runs[0] is not first
    assert capsys.readouterr().err == ""


def test_as_a_table(ids: list[str]) -> None:
    pytest.importorskip("pandas")
    table = crown_exp.runs(sort="created", columns=["min(loss)"]).to_pandas()
    assert (table.index.name, table.index.tolist()) == ("id", ids)
    assert list(table.columns) == [
        "name", "state", "experiment", "created", "step", "tags", "min(loss)", "task.factor",
        "accuracy", "by.name",
    ]  # fmt: skip
    assert table["task.factor"].tolist() == [1.0, 2.0, 3.0]
    assert table["tags"].tolist() == [["paper"], ["paper"], []]
    assert table["experiment"].isna().all()
    assert str(table["created"].dt.tz) == "UTC"
    assert str(table["accuracy"].dtype) == "float64"


def test_a_table_of_no_runs(ids: list[str]) -> None:
    pytest.importorskip("pandas")
    table = crown_exp.runs("tag:none").to_pandas()
    assert (len(table), list(table.columns)) == (
        0,
        ["name", "state", "experiment", "created", "step", "tags"],
    )
    assert str(table["created"].dt.tz) == "UTC"


def test_without_pandas(ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(CrownError, match=r"^runs\(\)\.to_pandas needs pandas: pip install pandas$"):
        crown_exp.runs().to_pandas()
    with pytest.raises(CrownError, match=r"^Curve\.to_pandas needs pandas"):
        crown_exp.open(ids[0]).curve("loss").to_pandas()


def test_as_text(ids: list[str]) -> None:
    lines = repr(crown_exp.runs("tag:paper", sort="created")).splitlines()
    assert lines[0] == "2 runs"
    assert (
        lines[1]
        == f"<run {ids[0]} line: completed, step 4, accuracy=1, by={{'name': 'plain'}}, #paper>"
    )
    assert repr(crown_exp.runs("tag:none")) == "no runs"


def test_as_html_the_user_s_texts_are_no_tags(ids: list[str]) -> None:
    runs = crown_exp.runs(columns=["min(loss)"])
    html = runs._repr_html_()
    assert html.startswith("<p>3 runs</p><table>")
    assert html.count("<tr>") == 4
    assert "<th>min(loss)</th>" in html
    for text in (html, runs[0]._repr_html_()):
        assert "<b>odd</b>" not in text
        assert "&lt;b&gt;odd&lt;/b&gt;" in text
    assert "completed, step 4" in runs[0]._repr_html_()
    assert crown_exp.runs("tag:none")._repr_html_() == "<p>no runs</p>"
