from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from crown_exp.config.targets import NOT_LITERAL, Target, TargetError, find_target

Write = Callable[..., None]
Find = Callable[[str], Target]
Fail = Callable[[str], TargetError]


def names(target: Target) -> list[str]:
    return list(target.parameters)


def test_constructors_of_classes(write: Write, find: Find) -> None:
    write(
        models="""
        from typing import Generic, TypeVar
        from abc import ABC
        from outside import Unknown

        class Init:
            def __init__(self, a, b=1): ...
            def __new__(cls, x): ...
        class New:
            def __new__(cls, x): ...
        class Empty: ...
        class Abstract(ABC, Generic[T]): ...
        class Child(Empty, Init): ...
        class Strange(Unknown, Init): ...
        class Error(ValueError): ...
        class Given(Init):
            __init__ = make()
        class Base:
            def __init__(self, base): ...
        class Left(Base): ...
        class Right(Base):
            def __init__(self, right): ...
        class Diamond(Left, Right): ...
        class Looped(Looped): ...
        class Sometimes:
            if fast:
                def __init__(self, a): ...
            else:
                def __init__(self, b): ...
        """
    )
    assert names(find("models.Init")) == ["a", "b"]
    assert names(find("models.New")) == ["x"]
    for name in ("Empty", "Abstract"):
        assert (names(find(f"models.{name}")), find(f"models.{name}").open) == ([], False)
    assert names(find("models.Child")) == ["a", "b"]
    assert names(find("models.Diamond")) == ["right"]  # not Base's: Python asks Right first
    for name in ("Strange", "Error", "Given", "Looped", "Sometimes"):
        assert find(f"models.{name}").open, name
        assert find(f"models.{name}").kind == "class"
    assert names(find("models.Given")) == []


def test_kwargs_of_a_constructor_reach_the_base(write: Write, find: Find) -> None:
    write(
        models='''
        class Base:
            """A base.

            Args:
                width: how wide
            """
            def __init__(self, width: int, depth: int = 2): ...
        class Deep(Base):
            def __init__(self, depth: str, **kwargs):
                super().__init__(width=3, **kwargs)
        class Any:
            def __init__(self, *args, **kwargs): ...
        '''
    )
    deep = find("models.Deep")
    assert names(deep) == ["depth", "width"]
    assert deep.open
    assert deep.parameters["depth"].required
    assert str(deep.parameters["depth"].kind) == "str"
    assert not deep.parameters["width"].required  # Deep may well give it itself
    assert deep.parameters["width"].doc == "how wide"
    assert (names(find("models.Any")), find("models.Any").open) == ([], True)


def test_bases_from_other_files(write: Write, find: Find, tmp_path: Path) -> None:
    write(
        lib____init__="from .core import Base as Core",
        lib__core="class Base:\n    def __init__(self, width: int): ...",
        models="import lib\nclass Net(lib.Core):\n    '''A net.'''\n",
    )
    net = find("models.Net")
    assert net.parameters["width"].file == str(tmp_path / "lib" / "core.py")
    assert (net.parameters["width"].line, net.line, net.doc) == (2, 2, "A net")


def test_fields_of_dataclasses(write: Write, find: Find) -> None:
    write(
        configs='''
        import dataclasses
        from dataclasses import KW_ONLY, InitVar, dataclass, field
        from typing import ClassVar

        class Plain:
            hidden: int = 0

        @dataclass
        class Base(Plain):
            """A base.

            Attributes:
                width: how wide
            """
            width: int
            depth: int = 2
            count: ClassVar[int] = 0
            total: "ClassVar[int]" = 0

        @dataclasses.dataclass(frozen=True)
        class Child(Base):
            depth: str = "x"
            """how deep it is. Deep."""
            layers: list[int] = field(default_factory=list)
            made: int = field(default_factory=lambda: 3)
            cache: dict = field(init=False, default_factory=dict)
            seed: InitVar[int] = 0
            _: KW_ONLY
            last: bool = field(default=False)

        class Grandchild(Child): ...

        @dataclass(init=False)
        class Bare:
            x: int

        @dataclass(kw_only=True)
        class Named:
            x: int

        @dataclass
        class Own:
            x: int
            def __init__(self, y): ...
        '''
    )
    child = find("configs.Child")
    assert names(child) == ["width", "depth", "layers", "made", "seed", "last"]
    assert not child.open
    given = child.parameters
    assert [name for name, one in given.items() if one.required] == ["width"]
    assert [name for name, one in given.items() if not one.positional] == ["last"]
    assert (given["width"].doc, given["depth"].doc) == ("how wide", "how deep it is")
    assert [str(given[name].kind) for name in ("depth", "layers", "seed")] == [
        "str",
        "list of int",
        "int",
    ]
    assert (given["layers"].default, given["layers"].default_text) == ([], "list()")
    assert given["made"].default is NOT_LITERAL
    assert given["last"].default is False
    assert names(find("configs.Grandchild")) == names(child)
    assert names(find("configs.Bare")) == []
    assert not find("configs.Named").parameters["x"].positional
    assert names(find("configs.Own")) == ["y"]


def test_fields_of_named_tuples_and_pydantic_models(
    write: Write, find: Find, tmp_path: Path
) -> None:
    write(
        configs="""
        from typing import NamedTuple
        from pydantic import BaseModel, ConfigDict, Field

        class Pair(NamedTuple):
            a: int
            b: str = "x"

        class Model(BaseModel):
            model_config = ConfigDict(frozen=True)
            a: int = Field(gt=0, description="The first. Of all.")
            b: float = Field(0.5, le=1)
        class Child(Model):
            c: str
        class Lax(BaseModel):
            model_config = ConfigDict(extra="allow")
            a: int
        """
    )
    pair = find("configs.Pair")
    assert (names(pair), pair.open, pair.parameters["b"].default) == (["a", "b"], False, "x")
    child = find_target("configs.Child", [str(tmp_path), *sys.path])
    assert (names(child), child.open) == (["a", "b", "c"], False)
    first, second = child.parameters["a"], child.parameters["b"]
    assert (str(first.kind), first.doc, first.required) == ("int > 0", "The first", True)
    assert (str(second.kind), second.default, second.required) == ("float <= 1", 0.5, False)
    assert find_target("configs.Lax", [str(tmp_path), *sys.path]).open


def test_classes_that_make_their_constructors_otherwise_are_open(write: Write, find: Find) -> None:
    write(
        magic="""
        import attrs
        from enum import Enum

        class Meta(type): ...
        class Base(metaclass=Meta): ...
        class Registered:
            def __init_subclass__(cls): ...

        class A(Base):
            x: int
        class B(Registered):
            x: int
        class C(Base):
            def __init__(self, x): ...
        class D(metaclass=Meta):
            def __init__(self, x): ...
        class E(Enum):
            RED = 1
        @attrs.define
        class F:
            x: int
        """
    )
    assert [name for name in "ABDEF" if not find(f"magic.{name}").open] == []
    assert not find("magic.C").open  # written out


def test_methods_of_classes(write: Write, find: Find, error: Fail) -> None:
    write(
        models="""
        class Base:
            @classmethod
            def load(cls, path: str): ...
        class Net(Base):
            @staticmethod
            def small(width=8): ...
            @classmethod
            def from_config(cls, config, *, strict=True): ...
            def forward(self, x): ...
            @property
            def size(self): ...
            class Inner:
                def __init__(self, y): ...
        Net.added = classmethod(print)
        """
    )
    assert names(find("models.Net.from_config")) == ["config", "strict"]
    assert names(find("models.Net.small")) == ["width"]
    assert names(find("models.Net.load")) == ["path"]
    assert names(find("models.Net.forward")) == ["x"]
    assert find("models.Net.size").kind == "unknown"
    assert find("models.Net.added").kind == "unknown"
    assert (find("models.Net.Inner").kind, names(find("models.Net.Inner"))) == ("class", ["y"])
    wrong = error("models.Net.from_confg")
    assert str(wrong) == ("models.Net has no 'from_confg'; did you mean models.Net.from_config?")
