"""What might be why a run is not exact, by a look at the user's own files. It proves nothing: the runs do."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MOST = 12

UNSEEDED = ("default_rng", "Random", "RandomState")
DIFFERS = {
    "time.time": "the time", "time.time_ns": "the time", "time.monotonic": "the time",
    "time.perf_counter": "the time", "datetime.now": "the time", "datetime.utcnow": "the time",
    "datetime.today": "the time", "uuid.uuid1": "drawn from nowhere", "uuid.uuid4": "drawn from nowhere",
    "os.urandom": "drawn from nowhere", "SystemRandom": "drawn from nowhere",
    "secrets.randbelow": "drawn from nowhere", "secrets.token_hex": "drawn from nowhere",
    "secrets.token_bytes": "drawn from nowhere", "os.getpid": "another in every process",
    "hash": "of a text it is another in every process", "id": "another in every process",
}  # fmt: skip
FILES = ("open", "read_text", "write_text", "read_bytes", "write_bytes", "torch.save", "torch.load")
ORDERED = ("list", "tuple", "enumerate", "iter", "sum", "next", "zip", "map")


@dataclass(frozen=True)
class Suspect:
    """A place in the user's code. line: 0 where only the name is known."""

    file: str
    line: int
    what: str

    @property
    def words(self) -> str:
        """`tasks.py:14  time.time(): the time`."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}  {self.what}" if where else self.what


def suspects(notes: Path, root: Path, used: Collection[str] = ()) -> list[Suspect]:
    """What a witness noted, and what its files hold; the first few.

    notes: of crown_exp.runner.witness. used: as `looked_at`. Nothing if there are none.
    """
    try:
        told = json.loads(notes.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    found = []
    for text in told["locals"]:
        file, _, name = text.partition(": ")
        what = f"{name}: carried from turn to turn, and plain data that is not tracked"
        found.append(Suspect(file, 0, what))
    found += [
        Suspect("", 0, f"{name}: outside of any function, and changed by the turns")
        for name in told["globals"]
    ]
    for file in told["files"]:
        path = Path(file)
        name = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
        try:
            found += looked_at(path.read_text(encoding="utf-8"), name, used)
        except (OSError, SyntaxError, ValueError):
            continue
    return list(dict.fromkeys(found))[:MOST]


def targets(tree: object) -> set[str]:
    """The last names of all `_target_`s of a config: functions and classes that it names."""
    if isinstance(tree, Mapping):
        own = {str(tree["_target_"]).rpartition(".")[2]} if tree.get("_target_") else set()
        return own.union(*map(targets, tree.values()))
    return set().union(*map(targets, tree)) if isinstance(tree, list) else set()


def looked_at(text: str, file: str, used: Collection[str] = ()) -> list[Suspect]:
    """The suspects in a file, by line. Raises SyntaxError.

    used: names of functions and classes; if the file defines one of them, what none of them uses is left out.
    """
    tree = reached(ast.parse(text), used)
    tracked, sets = tracked_names(tree), set_names(tree)
    found = []
    for node in ast.walk(tree):
        for what in suspicions(node, tracked, sets):
            line = getattr(getattr(node, "iter", node), "lineno", 0)  # a comprehension has none
            found.append(Suspect(file, line, what))
    return sorted(set(found), key=lambda item: (item.line, item.what))


def reached(tree: ast.Module, used: Collection[str]) -> ast.Module:
    """A module without the functions and classes that are not used; all of it if none of them is its own."""
    own = {it.name: it for it in tree.body if isinstance(it, ast.FunctionDef | ast.ClassDef)}
    wanted = [name for name in used if name in own]
    if not wanted:
        return tree
    plain = [it for it in tree.body if it not in own.values()]
    found: dict[str, ast.stmt] = {}
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = own[name]
            names = {it.id for it in ast.walk(own[name]) if isinstance(it, ast.Name)}
            wanted += [other for other in names if other in own]
    return ast.Module([*plain, *found.values()], [])


def suspicions(node: ast.AST, tracked: set[str], sets: set[str]) -> Iterator[str]:
    """What is suspicious about a node, by itself."""
    match node:
        case ast.Call():
            yield from of_call(node, sets)
        case ast.Assign(targets=[target]):
            for to, value in pairs(target, node.value):
                name = ast.unparse(to)
                if isinstance(value, ast.Call) and generator(value) and name not in tracked:
                    yield f"{name} = {ast.unparse(value)}: a generator, which is not tracked"
        case ast.Attribute(value=ast.Name(id="run"), attr="attempt" | "resumed" as attr):
            yield f"run.{attr}: is other in a resumed run"
        case ast.For() | ast.comprehension():
            if is_set(node.iter, sets):
                yield f"for … in {ast.unparse(node.iter)}: a set, whose order is another in every process"
        case ast.Global(names=names):
            yield f"global {', '.join(names)}: a resumed run has its first value"
        case ast.Subscript(slice=ast.Constant(value="lr"), ctx=ast.Store()):
            yield f"{ast.unparse(node)} = …: a learning rate set by hand"


def of_call(call: ast.Call, sets: set[str]) -> Iterator[str]:
    """What is suspicious about a call."""
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if why := next(
        (why for key, why in DIFFERS.items() if name == key or name.endswith(f".{key}")), ""
    ):
        yield f"{name}(): {why}"
    elif last in UNSEEDED and not [it for it in call.args if not is_none(it)] and not call.keywords:
        yield f"{name}(): a generator without a seed"
    elif name in FILES or last in FILES:
        yield f"{name}(…): a file, which is not part of the run's state"
    elif (last in ORDERED or last == "join") and any(is_set(it, sets) for it in call.args):
        yield f"{ast.unparse(call)}: the order of a set is another in every process"


def pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What is assigned to what."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        yield from zip(target.elts, value.elts, strict=False)
    else:
        yield target, value


def generator(call: ast.Call) -> bool:
    """Whether a call makes a generator of its own."""
    last = ast.unparse(call.func).rpartition(".")[2]
    chained = "Generator(" in ast.unparse(call.func)
    return chained or last in (*UNSEEDED, "Generator")


def is_set(node: ast.expr, sets: set[str]) -> bool:
    """Whether an expression is a set, as far as can be told."""
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Name(id=name):
            return name in sets
    return False


def is_none(node: ast.expr) -> bool:
    """Whether an expression is None."""
    return isinstance(node, ast.Constant) and node.value is None


def set_names(tree: ast.AST) -> set[str]:
    """Names to which a set is assigned anywhere in a file."""
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_set(node.value, set())
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def tracked_names(tree: ast.AST) -> set[str]:
    """Names that are handed to a `track` anywhere in a file."""
    return {
        keyword.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr == "track"
        for keyword in node.keywords
        if isinstance(keyword.value, ast.Name)
    }
