"""Only crown_exp/config/settings.py reads the environment; the entrances may set variables."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READER = "crown_exp/config/settings.py"
WRITERS = {"crown_exp/__main__.py", "crown_exp/hydra_app/app.py"}
PROGRAMS = {
    "crown_exp/compute/environment.py",
    "crown_exp/compute/executors/slurm/start.py",
    "crown_exp/compute/start.py",
}
"""Run as programs where a job is, without the rest of us: what they are told is in there."""
NAMES = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


def uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, "set" or "read") of every use of the environment."""
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    modules = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "os"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from ((node.lineno, "read") for alias in node.names if alias.name in NAMES)
        elif (
            isinstance(node, ast.Attribute)
            and node.attr in NAMES
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
        ):
            yield node.lineno, "set" if sets(node, above) else "read"


def sets(node: ast.Attribute, above: dict[ast.AST, ast.AST]) -> bool:
    """Whether this only writes: an assignment, a deletion, an update, a bare setdefault."""
    user = above[node]
    if isinstance(user, ast.Subscript):
        return isinstance(user.ctx, ast.Store | ast.Del) and not isinstance(
            above[user], ast.AugAssign
        )
    if isinstance(user, ast.Attribute) and user.attr in ("update", "setdefault"):
        return isinstance(above[above[user]], ast.Expr)
    return node.attr in ("putenv", "unsetenv")


def violations(path: str, source: str) -> list[str]:
    if path == READER or path in PROGRAMS:
        return []
    return [
        f"{path}:{line}: {kind}s the environment"
        for line, kind in uses(ast.parse(source))
        if not (kind == "set" and path in WRITERS)
    ]


def test_only_the_settings_read_the_environment() -> None:
    found = [
        violation
        for path in sorted((ROOT / "crown_exp").rglob("*.py"))
        for violation in violations(
            path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        )
    ]
    assert not found, f"ask {READER} instead:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "import os; os.environ['A']",
        "import os; x = {**os.environ}",
        "import os; os.environ.get('A')",
        "import os; x = os.environ.setdefault('A', 'b')",
        "import os; os.environ['A'] += 'b'",
        "import os; os.environ.pop('A')",
        "import os; os.getenv('A')",
        "import os as system; system.environ",
        "from os import environ",
        "from os import getenv as g",
    ],
)
def test_a_read_is_seen_wherever_it_hides(line: str) -> None:
    assert violations("crown_exp/runner/loop.py", line)
    assert violations("crown_exp/__main__.py", line)
    assert not violations(READER, line)


@pytest.mark.parametrize(
    "line",
    [
        "import os; os.environ['A'] = 'b'",
        "import os; del os.environ['A']",
        "import os; os.environ.setdefault('A', 'b')",
        "import os; os.environ.update(A='b')",
    ],
)
def test_the_entrances_may_set_and_nobody_else(line: str) -> None:
    assert not violations("crown_exp/__main__.py", line)
    assert violations("crown_exp/runner/loop.py", line)
