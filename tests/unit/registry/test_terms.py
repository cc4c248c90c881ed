"""Which runs, as people type it."""

from datetime import timedelta

import pytest

from crown_exp.errors import ConfigError
from crown_exp.outcome import State
from crown_exp.registry import Condition, Filter, Wanted, parse_filter, parse_wanted


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Filter()),
        ("tag:paper tag:best", Filter(tags=("paper", "best"))),
        (
            "experiment:digits user:ada sweep:s-1",
            Filter(experiment="digits", user="ada", sweep="s-1"),
        ),
        ("state:failed,LOST", Filter(states=frozenset({State.FAILED, State.LOST}))),
        ("state:failed state:lost", Filter(states=frozenset({State.FAILED, State.LOST}))),
        ("age<7d", Filter(newer=timedelta(days=7))),
        (" age > 90m ", Filter(older=timedelta(minutes=90))),
        ("signature:v1:0123", Filter(signature="v1:0123")),
        ('name:"two words"', Filter(name="two words")),
    ],
)
def test_fields(text: str, found: Filter) -> None:
    assert parse_filter(text) == found


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("lr<0.01", (Wanted("lr"), "<", 0.01)),
        ("lr < 1e-2", (Wanted("lr"), "<", 0.01)),
        ("optimizer.lr>=.1", (Wanted("optimizer.lr"), ">=", 0.1)),
        ("model=cnn", (Wanted("model"), "=", "cnn")),
        ("debug!=true", (Wanted("debug"), "!=", "true")),
        ("seed=3", (Wanted("seed"), "=", 3.0)),
        ("target~Adam", (Wanted("target"), "~", "Adam")),
        ("n~7", (Wanted("n"), "~", "7")),
        ("min(loss)<0.2", (Wanted("loss", "min"), "<", 0.2)),
        ('"val acc: top" > 0.9', (Wanted("val acc: top"), ">", 0.9)),
        ("val/acc>0.9", (Wanted("val/acc"), ">", 0.9)),
        ("精度>-inf", (Wanted("精度"), ">", float("-inf"))),
    ],
)
def test_conditions(text: str, condition: tuple[Wanted, str, float | str]) -> None:
    assert parse_filter(text).where == (Condition(*condition),)


def test_terms_add_to_what_is_asked_already() -> None:
    found = parse_filter("tag:b lr<1", parse_filter("tag:a user:ada"))
    assert found.tags == ("a", "b") and found.user == "ada" and len(found.where) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("experment:x", "experment:x: no such field; did you mean experiment?"),
        ("state:faild", "state:faild: no such state; did you mean failed?"),
        ("lr<fast", "<fast: expected a number"),
        ("lr", "lr: expected terms like tag:paper"),
        ("tag:a lr <", "lr <: expected terms like"),
        ("age<soon", "age<soon: expected an age like 30m, 12h, 7d"),
        ("age=1d", "age=1d: expected something like age<7d or age>12h"),
        ("age<5 steps", "age<5: expected an age like 30m, 12h, 7d"),
        ("age<5steps", "age<5steps: expected an age like 30m, 12h, 7d"),
        ("age<999999999999999d", "age<999999999999999d: nothing is that old"),
        ("mean(loss)<1", "mean(loss): mean is not known; known: last, max, min"),
    ],
)
def test_what_is_no_term_is_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_filter(text)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_a_wanted_value_is_typed_as_it_is_shown() -> None:
    for wanted in (Wanted("loss"), Wanted("loss", "min"), Wanted("optimizer.lr")):
        assert parse_wanted(str(wanted)) == wanted
