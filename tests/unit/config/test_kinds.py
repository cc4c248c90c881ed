from __future__ import annotations

import ast
import typing
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import annotated_types
import pytest
from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MinLen, MultipleOf

from crown_exp.config.kinds import ANY, Kind, check, kind_of_annotation, kind_of_type


def kind(text: str, **names: str) -> Kind:
    """The kind of an annotation; a name that stands for `=expression` is an alias."""
    meanings: dict[str, str | ast.expr] = {
        name: ast.parse(meaning[1:], mode="eval").body if meaning.startswith("=") else meaning
        for name, meaning in names.items()
    }
    return kind_of_annotation(ast.parse(text, mode="eval").body, meanings)


READABLE = {
    "int": "int",
    "None": "null",
    "Annotated[int, Gt(0)]": "int > 0",
    "Annotated[int, annotated_types.Ge(1)]": "int >= 1",
    "Annotated[float, Gt(0), Lt(1)]": "float in (0, 1)",
    "Annotated[float, Interval(ge=0, le=1)]": "float in [0, 1]",
    "Annotated[float, Field(ge=0, lt=1)]": "float in [0, 1)",
    "Annotated[float, Le(-0.5)]": "float <= -0.5",
    "Annotated[int, Gt(0), MultipleOf(8)]": "int > 0, a multiple of 8",
    "Annotated[Annotated[int, Gt(0)], Lt(9)]": "int in (0, 9)",
    "Annotated[int | None, Gt(0)]": "int > 0 or null",
    "Annotated[str, MinLen(1)]": "str of length 1 or more",
    "PositiveInt": "int > 0",
    "Literal['fp32', 'bf16', 'auto']": "'fp32' | 'bf16' | 'auto'",
    "Literal['a'] | Literal['b', 1] | None": "'a' | 'b' | 1 or null",
    "list[int]": "list of int",
    "List": "list",
    "Sequence[Annotated[int, Gt(0)]]": "list of int > 0",
    "Annotated[list[int], Len(1, 4)]": "list of length 1 to 4 of int",
    "Optional[list[int | None]]": "list of (int or null) or null",
    "tuple[float, float]": "[float, float]",
    "tuple[int, ...]": "list of int",
    "tuple": "list",
    "dict[str, Any]": "mapping",
    "Mapping[str, list[int]]": "mapping of str to list of int",
    "typing.Optional[int]": "int or null",
    "Union[int, str, None]": "int, str or null",
    "None | int": "int or null",
    "int | int": "int",
    "'int | None'": "int or null",
    "Optional['int']": "int or null",
    "Final[int]": "int",
    "Path": "str",
    "str | os.PathLike[str]": "str",
    "float | Tensor": "float",
    "tuple[float | Tensor, float | torch.Tensor]": "[float, float]",
    "Tensor": "any",
    "Tensor | None": "any",
    "int | Whatever": "any",
    "Callable[[int], str] | str": "any",
    "Literal[Colour.RED]": "any",
    "Config[nn.Module]": "any",
    "Run": "any",
    "'not python['": "any",
    "np.ndarray": "any",
    "Any": "any",
}


@pytest.mark.parametrize(("text", "expected"), READABLE.items())
def test_an_annotation_reads_as(text: str, expected: str) -> None:
    assert str(kind(text)) == expected


def test_no_annotation_accepts_anything() -> None:
    assert kind_of_annotation(None) == ANY


def test_names_are_taken_for_what_they_stand_for() -> None:
    assert str(kind("Opt[int]", Opt="typing.Optional")) == "int or null"
    assert str(kind("t.Optional[int]", t="typing")) == "int or null"
    assert str(kind("Rate | None", Rate="=Annotated[float, Gt(0)]")) == "float > 0 or null"
    assert str(kind("Json", Json="=dict[str, 'Json'] | int")) == "mapping or int"
    assert kind("Path", Path="my.graph.Path") == ANY
    assert kind("Literal['a']", Literal="my.Literal") == ANY


def test_docs_in_annotations() -> None:
    assert kind("Annotated[int, Gt(0), 'how many']").doc == "how many"
    assert kind("Annotated[int, Doc('how many')]").doc == "how many"
    assert kind("Annotated[int, Field(gt=0, description='how many')]").doc == "how many"


REJECTED = [
    ("int", "abc", "expected an int, got 'abc'"),
    ("int", True, "expected an int, got true"),
    ("int", 2.0, "expected an int, got 2.0"),
    ("int", None, "expected an int, got null"),
    ("float", "1e-3", "expected a float, got '1e-3'"),
    ("float", False, "expected a float, got false"),
    ("bool", 1, "expected a bool, got 1"),
    ("str", 1, "expected a str, got 1"),
    ("Annotated[int, Gt(0)]", 0, "expected an int > 0, got 0"),
    ("Annotated[float, Ge(0)]", float("nan"), "expected a float >= 0, got nan"),
    ("Annotated[int, MultipleOf(8)]", 12, "expected an int, a multiple of 8, got 12"),
    ("int | None", "x", "expected an int or null, got 'x'"),
    ("Literal['a', 'b']", "c", "expected 'a' | 'b', got 'c'"),
    ("Literal[1, 2]", True, "expected 1 | 2, got true"),
    ("list[int]", [1, "a"], "expected an int, got 'a' at [1]"),
    ("list[str]", "abc", "expected a list of str, got 'abc'"),
    ("Annotated[list[int], MinLen(1)]", [], "expected a list of length 1 or more of int, got []"),
    ("tuple[float, float]", [0.9], "expected [float, float], got [0.9]"),
    ("tuple[float, str]", [0.9, 1], "expected a str, got 1 at [1]"),
    ("dict[str, list[int]]", {"a": [None]}, "expected an int, got null at ['a'][0]"),
    ("dict", [], "expected a mapping, got []"),
    ("Annotated[str, MinLen(1)]", "", "expected a str of length 1 or more, got ''"),
]


@pytest.mark.parametrize(("text", "value", "sentence"), REJECTED)
def test_a_wrong_value_is_told_in_a_sentence(text: str, value: object, sentence: str) -> None:
    assert check(kind(text), value) == sentence


ACCEPTED = [
    ("int", -3),
    ("float", 1),
    ("float", 1e-3),
    ("float", float("inf")),
    ("Annotated[float, Gt(0), Lt(1)]", 0.5),
    ("int | None", None),
    ("Literal[1, 'a', None]", None),
    ("list[int]", (1, 2)),
    ("tuple[float, float]", [1, 0.5]),
    ("tuple[float | Tensor, float | Tensor]", (0.9, 0.999)),
    ("Path", "data/x.csv"),
    ("dict[str, int]", {}),
    ("Whatever", object()),
    ("Tensor | None", [1.0]),
]


@pytest.mark.parametrize(("text", "value"), ACCEPTED)
def test_a_right_value_passes(text: str, value: object) -> None:
    assert check(kind(text), value) is None


def test_what_will_be_built_fits_anything() -> None:
    assert check(kind("int"), {"_target_": "math.floor"}) is None
    assert check(kind("list[int]"), [1, {"_target_": "math.floor"}]) is None


def test_a_long_value_is_cut_off() -> None:
    sentence = check(kind("int"), "a" * 100)
    assert sentence == f"expected an int, got '{'a' * 38}…"


REAL: dict[Any, str] = {
    int: "int",
    None: "null",
    type(None): "null",
    Any: "any",
    Path: "str",
    dict: "mapping",
    list: "list",
    Optional[int]: "int or null",  # noqa: UP045
    int | str | None: "int, str or null",
    Union[float, str]: "float or str",  # noqa: UP007
    list[int]: "list of int",
    tuple[int, ...]: "list of int",
    tuple[int, str]: "[int, str]",
    Sequence[str]: "list of str",
    Mapping[str, int]: "mapping of str to int",
    typing.List[int]: "list of int",  # noqa: UP006
    Literal["warn", "refuse"]: "'warn' | 'refuse'",
    Annotated[int, Gt(0)]: "int > 0",
    Annotated[float, Interval(ge=0, le=1)]: "float in [0, 1]",
    Annotated[float, Ge(0)] | None: "float >= 0 or null",
    Annotated[int | None, Le(3), Lt(9)]: "int < 9 or null",
    Annotated[list[str], Len(1, 1)]: "list of length 1 of str",
    Annotated[str, MinLen(2)]: "str of length 2 or more",
    Annotated[int, MultipleOf(8)]: "int, a multiple of 8",
    Fraction: "any",
}


@pytest.mark.parametrize(("tp", "expected"), REAL.items(), ids=map(str, REAL))
def test_a_real_type_reads_as(tp: object, expected: str) -> None:
    assert str(kind_of_type(tp)) == expected


def test_real_types_and_source_agree() -> None:
    compared = 0
    for text in READABLE:
        try:
            tp = eval(text, {**vars(annotated_types), **vars(typing), **globals()})
        except (NameError, AttributeError, TypeError):
            continue
        assert kind_of_type(tp) == kind(text), text
        compared += 1
    assert compared > 30


def test_a_field_of_pydantic_says_its_limits() -> None:
    from pydantic import Field

    found = kind_of_type(Annotated[int, Field(gt=0, le=8, description="layers")])
    assert (str(found), found.doc) == ("int in (0, 8]", "layers")
