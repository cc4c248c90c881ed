"""What clear code looks like here: small functions, small modules, names that say what is in them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from crown_exp import errors
from crown_exp.config.project import builtin_conf
from crown_exp.outcome import FINAL, STATE_OF_EXIT, STOPS, ExitCode, State

ROOT = builtin_conf().parent
MODULES = sorted(
    path
    for room in ("crown_exp", "experiments", "launchers")
    for path in (ROOT / room).rglob("*.py")
    if path.parent.name != "versions"  # a migration of the database is a list, written once
)
FUNCTION, MODULE, FACE = 60, 400, 60
"""Lines of the longest function, module, and `__init__` of a package."""

NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "callbacks", "hooks"}
"""What may not be the name of a module, because it says nothing (storage/manager.py is in the glossary)."""


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a module and its length in lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_functions_and_modules_are_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE
    assert [item for item in functions(path) if item[1] > FUNCTION] == []


def test_most_functions_can_be_read_in_one_breath() -> None:
    lengths = sorted(length for path in MODULES for _, length in functions(path))
    assert lengths[len(lengths) // 2] <= 12


FACES = [path for path in MODULES if path.name == "__init__.py" and path.parent.name != "cli"]
"""What rooms show to each other; crown_exp/cli/__init__.py is shown to nobody."""


@pytest.mark.parametrize("path", FACES, ids=shown)
def test_the_face_of_a_package_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FACE


def test_no_module_has_a_name_that_says_nothing() -> None:
    named = {shown(path): path.stem for path in MODULES}
    found = {path for path, stem in named.items() if stem in NAMELESS}
    assert found <= {"crown_exp/storage/manager.py"}


def test_every_module_says_what_it_is() -> None:
    silent = [
        shown(path)
        for path in MODULES
        if path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


# --- errors and exit codes ------------------------------------------------------------------------------


def every_error() -> set[type[errors.CrownError]]:
    """Every kind of CrownError that any module defines."""
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if path.is_relative_to(ROOT / "crown_exp") and "Error)" in text and "class " in text:
            import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found, todo = {errors.CrownError}, [errors.CrownError]
    while todo:
        for kind in todo.pop().__subclasses__():
            if kind not in found:
                found.add(kind)
                todo.append(kind)
    return found


def test_every_error_ends_with_a_code_of_the_contract() -> None:
    kinds = every_error()
    assert {kind.__name__ for kind in kinds} >= {
        "ConfigError",
        "Diverged",
        "StoreError",
        "RunFailed",
    }
    for kind in kinds:
        assert kind.exit_code in set(ExitCode), kind


def test_the_tree_of_errors_is_as_it_is_drawn() -> None:
    lines = [line.split() for line in (errors.__doc__ or "").splitlines()]
    drawn = {word: words for words in lines for word in words[:4]}
    for kind in every_error():
        if kind.__module__ == errors.__name__:
            assert str(kind.exit_code) in drawn[kind.__name__]


def test_every_exit_code_that_ends_a_run_has_a_state() -> None:
    assert set(STATE_OF_EXIT) == set(ExitCode) - {ExitCode.SUPERSEDED}
    assert {STATE_OF_EXIT[code] for code in STOPS}.isdisjoint(FINAL)
    assert STATE_OF_EXIT[ExitCode.INTERRUPTED] is State.STOPPED
