"""A module's source, read once: what its names are bound to at the top level."""

from __future__ import annotations

import ast
import re
import warnings
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from crown_exp.config.kinds import Names, dotted_name
from crown_exp.config.targets.base import TargetError
from crown_exp.config.targets.places import Place

Function = ast.FunctionDef | ast.AsyncFunctionDef
Def = Function | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Import:
    """A name that comes from elsewhere: the module itself, or `name` of it."""

    module: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """One way a name gets its meaning: a definition, an import, an assigned expression, or neither.

    branch: "" if it always happens, "try" or "if" if it depends.
    """

    meaning: Def | Import | ast.expr | None
    branch: str = ""


@dataclass
class Scope:
    """The names of a module or class body. `stars` are the modules of `from … import *`."""

    package: str = ""
    names: dict[str, list[Binding]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    docs: dict[str, ast.expr] = field(default_factory=dict)
    exports: list[ast.expr] = field(default_factory=list)

    def put(self, name: str, meaning: Def | Import | ast.expr | None, branch: str) -> None:
        """Bind a name; a binding that always happens replaces the earlier ones."""
        kept = self.names.get(name, []) if branch else []
        self.names[name] = [*kept, Binding(meaning, branch)]


def scope_of(body: Iterable[ast.stmt], package: str = "") -> Scope:
    """What a module's or class's statements bind; relative imports start from `package`."""
    scope = Scope(package)
    for statement in body:
        _bind(scope, statement, "")
    return scope


def _bind(scope: Scope, node: ast.stmt, branch: str) -> None:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            if not is_overload(node):
                scope.put(node.name, node, branch)
        case ast.Import(names=aliases):
            for alias in aliases:
                top = alias.name.partition(".")[0]
                scope.put(alias.asname or top, Import(alias.name if alias.asname else top), branch)
        case ast.ImportFrom():
            _bind_from(scope, node, branch)
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                _bind_target(scope, target, value, branch)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            _bind_target(scope, target, value, branch)
        case ast.AugAssign(target=ast.Name(id=name), value=value):
            if name == "__all__":
                scope.exports.append(value)
            else:
                scope.put(name, None, branch)
        case ast.Delete(targets=targets):
            for name in (name for target in targets for name in _names_in(target)):
                scope.names.pop(name, None)
        case _:
            _bind_block(scope, node, branch)


def _bind_from(scope: Scope, node: ast.ImportFrom, branch: str) -> None:
    module = node.module or ""
    if node.level:
        parents = scope.package.split(".")
        base = ".".join(parents[: len(parents) - node.level + 1])
        module = f"{base}.{module}".strip(".")
    for alias in node.names:
        if alias.name == "*":
            scope.stars.append(module)
        else:
            scope.put(alias.asname or alias.name, Import(module, alias.name), branch)


def _bind_target(scope: Scope, target: ast.expr, value: ast.expr, branch: str) -> None:
    if isinstance(target, ast.Name):
        if target.id == "__all__":
            scope.exports = [value]
        scope.put(target.id, value, branch)
    elif isinstance(target, ast.Attribute):
        if target.attr == "__doc__" and isinstance(target.value, ast.Name):
            scope.docs[target.value.id] = value
    else:
        for name in _names_in(target):
            scope.put(name, None, branch)


def _bind_block(scope: Scope, node: ast.stmt, branch: str) -> None:
    """Compound statements: what is bound in their blocks, and the targets of for and with."""
    inner = branch
    match node:
        case ast.If() | ast.Match() | ast.While():
            inner = "if"
        case ast.Try() | ast.TryStar():
            inner = branch or "try"
        case ast.For(target=target) | ast.AsyncFor(target=target):
            inner = "if"
            _bind_target(scope, target, ast.Constant(None), inner)
        case ast.With(items=items) | ast.AsyncWith(items=items):
            for item in items:
                if item.optional_vars is not None:
                    _bind_target(scope, item.optional_vars, item.context_expr, branch)
        case _ if isinstance(name := getattr(node, "name", None), ast.Name):
            scope.put(name.id, getattr(node, "value", None), branch)  # type X = …, from 3.12
    for statement in blocks_of(node):
        _bind(scope, statement, inner)


def blocks_of(node: ast.stmt | ast.ExceptHandler | ast.match_case) -> Iterator[ast.stmt]:
    """The statements in the blocks of a compound statement, in the order of the source."""
    for name in ("body", "cases", "handlers", "orelse", "finalbody"):
        for part in getattr(node, name, ()):
            if isinstance(part, ast.stmt):
                yield part
            else:
                yield from blocks_of(part)


def _names_in(target: ast.expr) -> list[str]:
    if isinstance(target, ast.Tuple | ast.List):
        return [name for one in target.elts for name in _names_in(one)]
    if isinstance(target, ast.Starred):
        return _names_in(target.value)
    return [target.id] if isinstance(target, ast.Name) else []


def is_overload(node: Def) -> bool:
    """Whether a definition is only one of the `@overload`s of a function."""
    return any(dotted_name(one, {}).endswith("overload") for one in node.decorator_list)


@dataclass(frozen=True, eq=False)
class Source:
    """A module that was read."""

    place: Place
    tree: ast.Module = field(repr=False)
    lines: Sequence[bytes] = field(repr=False)

    @cached_property
    def scope(self) -> Scope:
        """What its names are bound to."""
        return scope_of(self.tree.body, self.place.package)

    @cached_property
    def names(self) -> Names:
        """What its names mean in an annotation."""
        meanings = ((name, found[0].meaning) for name, found in self.scope.names.items())
        return {name: self._dotted(name, one) for name, one in meanings if one is not None}

    def _dotted(self, name: str, meaning: Def | Import | ast.expr) -> str | ast.expr:
        if isinstance(meaning, Import):
            return f"{meaning.module}.{meaning.name}".rstrip(".")
        return meaning if isinstance(meaning, ast.expr) else f"{self.place.name}.{name}"

    @cached_property
    def exports(self) -> set[str] | None:
        """What `from … import *` takes; None if `__all__` does not say it plainly."""
        if not self.scope.exports:
            return {name for name in self.scope.names if not name.startswith("_")}
        try:
            lists = [ast.literal_eval(part) for part in self.scope.exports]
            return {str(name) for part in lists for name in part}
        except (ValueError, TypeError):
            return None

    @cached_property
    def dynamic(self) -> bool:
        """Whether it may have names that its source does not show: made by code as it runs."""
        if "__path__" in self.scope.names:
            return True
        if any(not _only_refuses(one.meaning) for one in self.scope.names.get("__getattr__", ())):
            return True
        return _makes_names(self.tree) or any(map(_makes_names_here, _outside(self.tree)))

    def mentions(self, name: str) -> bool:
        """Whether a name stands anywhere in it, be it in a string."""
        word = re.compile(rf"\b{re.escape(name)}\b".encode())
        return any(word.search(line) for line in self.lines)

    def text(self, node: ast.expr) -> str:
        """The source of an expression, on one line."""
        line, end = node.lineno, node.end_lineno
        if end != line:
            return ast.unparse(node)
        return self.lines[line - 1][node.col_offset : node.end_col_offset].decode(errors="replace")


def _only_refuses(meaning: object) -> bool:
    """Whether a `__getattr__` gives nothing new, like one that explains why a name is gone."""
    if not isinstance(meaning, Function):
        return False
    returned = [node.value for node in ast.walk(meaning) if isinstance(node, ast.Return)]
    return all(_is_global_read(value) for value in returned)


def _is_global_read(node: ast.AST | None) -> bool:
    """`globals()[…]`, read."""
    match node:
        case ast.Subscript(value=ast.Call(func=ast.Name(id="globals")), ctx=ast.Load()):
            return True
    return False


def _makes_names(node: ast.AST) -> bool:
    """Whether anything in a tree may bind a global name: `globals()`, `sys.modules`, `global`."""
    if _is_global_read(node):
        return False
    if isinstance(node, ast.Name):
        return node.id == "globals"
    if isinstance(node, ast.Attribute) and node.attr == "modules":
        return dotted_name(node, {}) == "sys.modules"
    return isinstance(node, ast.Global) or any(map(_makes_names, ast.iter_child_nodes(node)))


def _makes_names_here(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in ("exec", "locals", "vars")
    return isinstance(node, ast.NamedExpr)


def _outside(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that is not inside a function."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _outside(child)


def read_source(place: Place) -> Source | None:
    """The source of a module, read again only if the file changed; None if it has none.

    Raises TargetError if the file cannot be read or parsed.
    """
    if place.file is None:
        return None
    try:
        status = Path(place.file).stat()
        return _read(place, status.st_mtime_ns, status.st_size)
    except SyntaxError as error:
        where = f"{_from_here(place.file)}:{error.lineno or 1}"
        raise TargetError(f"cannot read {where}: {error.msg}", source=where) from None
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise TargetError(f"cannot read {_from_here(place.file)}: {what}") from None


def _from_here(file: str) -> str:
    here = Path.cwd()
    return str(Path(file).relative_to(here)) if Path(file).is_relative_to(here) else file


@lru_cache(maxsize=128)
def _read(place: Place, modified: int, size: int) -> Source:
    content = Path(place.file or "").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's docstrings
        tree = ast.parse(content, filename=place.file or "")
    return Source(place, tree, content.removeprefix(BOM_UTF8).split(b"\n"))
