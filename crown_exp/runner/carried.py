"""Which locals a loop carries from turn to turn: those that a turn reads before it has assigned them.

A name is live at the head of a loop (Aho, Lam, Sethi, Ullman, Compilers, §9.2.5) if there is a way through
the body on which it is read before it is assigned. Live, and assigned in the body: then a turn hands it to
the next. Found on the syntax tree of the loop that stands in the user's file. Where the tree leaves it open,
nothing is suspected: inner loops make a turn at least, a condition that is written twice has one value.
"""

from __future__ import annotations

import ast
import linecache
from collections import deque
from collections.abc import Iterable
from types import FrameType

MUTATING = {
    *("append", "appendleft", "extend", "insert", "add", "update", "setdefault"),
    *("pop", "popleft", "popitem", "remove", "discard", "clear"),
}

Names = set[str] | None
"""What is assigned at a place of the body; None where none gets to."""


def carried(frame: FrameType) -> list[str]:
    """The locals that the loop which a frame is in the head of hands from turn to turn, as a turn meets them.

    Nothing if its source is not there, or the turns are not taken by a `for`.
    """
    text = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
    try:
        loop = loop_at(ast.parse(text), frame.f_lineno)
    except (SyntaxError, ValueError):
        return []
    if loop is None:
        return []
    values = frame.f_locals
    grown = [name for name in mutated(loop.body) if is_container(values.get(name))]
    turn = Turn(loop)
    again = [name for name in grown if name not in turn.stored]
    return list(dict.fromkeys([*(name for name in turn.live if name in turn.stored), *again]))


def loop_at(tree: ast.Module, line: int) -> ast.For | None:
    """The innermost `for` whose head is in a line."""
    loops = (node for node in ast.walk(tree) if isinstance(node, ast.For))  # outer ones come first
    heads = [node for node in loops if node.lineno <= line <= (node.iter.end_lineno or line)]
    return heads[-1] if heads else None


class Turn:
    """A way through the body of a loop. live: what is read before it is assigned. stored: what is assigned."""

    def __init__(self, loop: ast.For) -> None:
        self.live: dict[str, None] = {}
        self.stored: set[str] = set()
        self.inner: list[
            list[set[str]]
        ] = []  # of each loop inside, what is assigned where it is broken off
        self.known: dict[str, set[str]] = {}  # what is assigned where a condition holds
        self.block(loop.body, self.bind(loop.target, set()))

    def block(self, body: Iterable[ast.stmt], names: Names) -> Names:
        """Go through statements; what is assigned after them."""
        for statement in body:
            if names is None:
                return None
            names = self.statement(statement, names)
        return names

    def statement(self, node: ast.stmt, names: set[str]) -> Names:
        """Go through one statement; what is assigned after it."""
        match node:
            case ast.If():
                return self.branches(node, names)
            case ast.For() | ast.AsyncFor():
                self.read(node.iter, names)
                return self.repeated(node, self.bind(node.target, names), endless=False)
            case ast.While():
                self.read(node.test, names)
                endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
                return self.repeated(node, names, endless)
            case ast.Try() | ast.TryStar():
                return self.tried(node, names)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self.read(item.context_expr, names)
                    if item.optional_vars:
                        names = self.bind(item.optional_vars, names)
                return self.block(node.body, names)
            case ast.Match():
                self.read(node.subject, names)
                return meet([self.case(case, set(names)) for case in node.cases])
            case ast.Break() | ast.Continue():
                if self.inner:
                    self.inner[-1].append(names)
                return None
        return self.simple(node, names)

    def simple(self, node: ast.stmt, names: set[str]) -> Names:
        """A statement that holds no others, but for the functions and classes it defines."""
        match node:
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                if node.value:
                    self.read(node.value, names)
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets if node.value else ():
                    if isinstance(node, ast.AugAssign):
                        self.read_name(target, names)
                    names = self.bind(target, names)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return self.store(node.name, names)
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    names = self.store(alias.asname or alias.name.partition(".")[0], names)
            case _:
                self.read(node, names)
        return None if isinstance(node, ast.Return | ast.Raise) else names

    def branches(self, node: ast.If, names: set[str]) -> Names:
        """Both ways of an `if`. What was assigned under the same words before is assigned under them again."""
        self.read(node.test, names)
        words = ast.dump(node.test)
        then = self.block(node.body, names | self.known.get(words, set()))
        if then is not None:
            self.known[words] = self.known.get(words, set()) | then
        return meet([then, self.block(node.orelse, set(names))])

    def repeated(
        self, node: ast.For | ast.AsyncFor | ast.While, names: set[str], endless: bool
    ) -> Names:
        """A loop inside the turn, which is taken to make a turn of its own at least."""
        self.inner.append([])
        through = self.block(node.body, set(names))
        left = meet(self.inner.pop())
        if endless:
            return left
        return self.block(node.orelse, through if through is not None else left)

    def tried(self, node: ast.Try | ast.TryStar, names: set[str]) -> Names:
        """A `try`, whose body may end anywhere."""
        ways = [self.block([*node.body, *node.orelse], set(names))]
        for handler in node.handlers:
            ways.append(self.block(handler.body, {*names, *filter(None, [handler.name])}))
        after = meet(ways)
        last = self.block(node.finalbody, names if after is None else after)
        return None if after is None else last

    def case(self, case: ast.match_case, names: set[str]) -> Names:
        """One case of a `match`, with what its pattern binds."""
        for item in ast.walk(case.pattern):
            for bound in (getattr(item, "name", None), getattr(item, "rest", None)):
                names = self.store(bound, names) if isinstance(bound, str) else names
        if case.guard:
            self.read(case.guard, names)
        return self.block(case.body, names)

    def bind(self, target: ast.expr, names: set[str]) -> set[str]:
        """Assign to a target: names in it are stored, all else of it is read."""
        if isinstance(target, ast.Name):
            return self.store(target.id, names)
        if isinstance(target, ast.Tuple | ast.List):
            for item in target.elts:
                names = self.bind(item, names)
            return names
        if isinstance(target, ast.Starred):
            return self.bind(target.value, names)
        self.read(target, names)
        return names

    def store(self, name: str, names: set[str]) -> set[str]:
        """A name is assigned."""
        self.stored.add(name)
        return names | {name}

    def read(self, node: ast.AST, names: set[str]) -> None:
        """The names that an expression reads; those that it assigns (`:=`) are added to `names`."""
        if isinstance(node, ast.Lambda):
            return  # it reads when it is called
        if isinstance(node, ast.NamedExpr):
            self.read(node.value, names)
            names |= self.store(node.target.id, names)
            return
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            targets = [part for item in node.generators for part in ast.walk(item.target)]
            names = names | {part.id for part in targets if isinstance(part, ast.Name)}
        self.read_name(node, names)
        for child in ast.iter_child_nodes(node):
            self.read(child, names)

    def read_name(self, node: ast.AST, names: set[str]) -> None:
        """A name is read, if it is one."""
        if (
            isinstance(node, ast.Name)
            and not isinstance(node.ctx, ast.Del)
            and node.id not in names
        ):
            self.live[node.id] = None


def meet(ways: Iterable[Names]) -> Names:
    """What is assigned on all of the ways that lead on."""
    found = [names for names in ways if names is not None]
    return set.intersection(*found) if found else None


def mutated(body: Iterable[ast.stmt]) -> list[str]:
    """The names whose values are changed in place: `seen.append(…)`, `counts[word] += 1`."""
    found = []
    for node in (item for statement in body for item in ast.walk(statement)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
                found += [name] if method in MUTATING else []
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                found.append(name)
    return found


def is_container(value: object) -> bool:
    """Whether a value is a container that grows; a buffer that is filled anew each turn does not."""
    return isinstance(value, list | dict | set | deque)
