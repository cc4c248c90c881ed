from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crown_exp.config.targets import Target, TargetError, find_target

Write = Callable[..., None]
Find = Callable[[str], Target]
Fail = Callable[[str], TargetError]


def names(target: Target) -> list[str]:
    return list(target.parameters)


def test_reexports_are_followed_through_files(
    write: Write, find: Find, tmp_path: Path, error: Fail
) -> None:
    write(
        pkg____init__="""
        from .sub import *
        from .sub.deep import g as renamed
        from . import sub
        import pkg.sub.deep as direct
        from pkg import sub as again
        alias = again.deep.g
        second = alias
        first = second
        """,
        pkg__sub____init__="from ..other import *\nfrom .deep import f\n__all__ = ['f', 'hidden']",
        pkg__sub__deep="def f(a): ...\ndef g(b): ...\ndef _private(c): ...",
        pkg__other="def hidden(h): ...\ndef visible(v): ...\nfrom pkg.sub.deep import _private",
    )
    ways = {
        "pkg.f": "a",
        "pkg.renamed": "b",
        "pkg.hidden": "h",
        "pkg.sub.f": "a",
        "pkg.sub.visible": "v",
        "pkg.sub.deep.g": "b",
        "pkg.direct.g": "b",
        "pkg.again.deep.f": "a",
        "pkg.alias": "b",
        "pkg.first": "b",
    }
    for target, parameter in ways.items():
        found = find(target)
        assert names(found) == [parameter], target
        assert found.name == target
    assert find("pkg.f").file == str(tmp_path / "pkg" / "sub" / "deep.py")
    assert "has no 'visible'" in str(error("pkg.visible"))  # not in __all__
    assert "has no '_private'" in str(error("pkg.sub._private"))


def test_the_name_in_a_package_hides_a_module_of_the_same_name(write: Write, find: Find) -> None:
    write(pkg____init__="from .train import train", pkg__train="def train(a): ...")
    assert names(find("pkg.train")) == ["a"]
    assert names(find("pkg.train.train")) == ["a"]


def test_circles_of_imports_end(write: Write, find: Find, error: Fail) -> None:
    write(
        a="from b import x\nfrom b import *\ny = z\nz = y",
        b="from a import x\nfrom a import *\ndef f(q): ...",
    )
    assert find("a.x").kind == "unknown"
    assert find("a.y").kind == "unknown"
    assert names(find("a.f")) == ["q"]
    assert "has no 'nothing'" in str(error("a.nothing"))


def test_conditional_definitions(write: Write, find: Find, error: Fail) -> None:
    write(
        fast="def f(quick): ...",
        new="def broken(:",
        tasks="""
        from typing import TYPE_CHECKING
        try:
            from fast import f
        except ImportError:
            def f(slow): ...
        try:
            from missing import g
        except ImportError:
            def g(slow): ...
        if TYPE_CHECKING:
            def only(a): ...
        if old:
            def h(a): ...
        elif older:
            def h(b): ...
        else:
            from new import broken as h
        with something() as managed:
            def inside(w): ...
        for each in range(3):
            pass
        def twice(a): ...
        def twice(b): ...
        def gone(): ...
        del gone
        """,
    )
    assert names(find("tasks.f")) == ["quick"]
    assert not find("tasks.f").open
    assert names(find("tasks.g")) == ["slow"]
    assert not find("tasks.g").open
    assert names(find("tasks.only")) == ["a"]
    assert find("tasks.h").open  # which one it is depends
    assert not find("tasks.h").parameters["a"].required
    assert names(find("tasks.inside")) == ["w"]
    assert names(find("tasks.twice")) == ["b"]
    for name in ("managed", "each"):
        assert find(f"tasks.{name}").kind == "unknown"
    assert "has no 'gone'" in str(error("tasks.gone"))


UNKNOWN = {
    "partial": "f = partial(print, 1)",
    "builtin": "f = print",
    "lambda": "f = lambda a: a",
    "pair": "f, g = make()",
    "missing": "from nowhere import f",
    "typo_in_import": "from other import ff as f",
    "extension": "from _ctypes import f",
    "star_of_extension": "from math import *\nfrom time import *",
    "missing_star": "from nowhere import *",
    "getattr": "def __getattr__(name): return make(name)",
    "lazy": "__getattr__, __dir__, __all__ = attach(__name__)",
    "globals": "for name in 'f': globals()[name] = make(name)",
    "update": "globals().update(f=1)",
    "module": "import sys\nsys.modules[__name__] = Lazy()",
    "setattr": "import sys\nsetattr(sys.modules[__name__], 'f', 1)",
    "exec": "exec('def f(): ...')",
    "locals": "locals()['f'] = 1",
    "global": "def make():\n    global f\n    f = 1",
    "walrus": "print(f := 1)",
    "changed": "def f(a): ...\nf = jit(f)",
}


@pytest.mark.parametrize("text", UNKNOWN.values(), ids=UNKNOWN)
def test_what_cannot_be_read_is_unknown_and_open(write: Write, find: Find, text: str) -> None:
    write(tasks=text, other="def f(): ...")
    found = find("tasks.f")
    assert (found.kind, found.open, dict(found.parameters)) == ("unknown", True, {})


def test_c_extensions_and_builtins_are_unknown() -> None:
    for target in ("builtins.dict", "math.floor", "time.sleep", "itertools.chain.from_iterable"):
        found = find_target(target)
        assert (found.kind, found.open) == ("unknown", True)


def test_what_a_star_import_from_c_may_hide_is_open(write: Write, find: Find) -> None:
    write(tasks="def f(a): ...\nfrom math import *")
    assert find("tasks.f").open


def test_globals_that_are_only_read_hide_nothing(write: Write, error: Fail) -> None:
    write(
        tasks="""
        def f(a): ...
        def __getattr__(name):
            if name == "old":
                raise ImportError("old is gone")
            return globals()[name]
        def save(): return vars(), locals()
        """
    )
    assert error("tasks.ff").suggestions == ("tasks.f",)


def test_folders_without_init_and_files_of_several_folders(tmp_path: Path) -> None:
    for at, name in enumerate(("one", "two")):
        folder = tmp_path / name / "shared" / "inner"
        folder.mkdir(parents=True)
        (folder / f"m{at}.py").write_text(f"def f(a{at}): ...")
    path = [str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "nowhere")]
    assert names(find_target("shared.inner.m0.f", path)) == ["a0"]
    assert names(find_target("shared.inner.m1.f", path)) == ["a1"]
    with pytest.raises(TargetError, match=r"no module 'shared\.inner\.m3'"):
        find_target("shared.inner.m3.f", path)


def test_what_other_finders_know_at_the_top(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an editable install's finder: it answers for one name and is not asked about others."""
    from importlib.machinery import ModuleSpec
    from importlib.util import spec_from_file_location

    asked: list[str] = []

    class Editable:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
            asked.append(name)
            folder = tmp_path / "checkout"
            if name != "edited":
                return None
            return spec_from_file_location(
                name, folder / "__init__.py", submodule_search_locations=[str(folder)]
            )

    class Broken:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            raise RuntimeError

    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path, Editable])
    write(checkout____init__="", checkout__models="def f(a): ...")
    assert names(find_target("edited.models.f", [])) == ["a"]
    assert asked == ["edited"]
    assert "edited" not in sys.modules


def test_a_changed_file_is_read_again(write: Write, find: Find) -> None:
    write(tasks="def f(a): ...")
    assert names(find("tasks.f")) == ["a"]
    write(tasks="def f(changed): ...")
    assert names(find("tasks.f")) == ["changed"]
    write(later="def f(b): ...")
    assert names(find("later.f")) == ["b"]
