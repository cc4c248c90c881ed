"""The one question asked of this package: what does this `_target_` take?"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Sequence

from crown_exp.config.nearest import edits, either, known_names, nearest
from crown_exp.config.targets.base import Target, TargetError
from crown_exp.config.targets.classes import of_class
from crown_exp.config.targets.docs import first_sentence
from crown_exp.config.targets.lookup import Definition, Lookup, Symbol, Unreadable
from crown_exp.config.targets.places import Place
from crown_exp.config.targets.signature import Signature, decorators, doc_text, of_function
from crown_exp.config.targets.source import Scope, read_source


def find_target(target: str, path: Sequence[str] | None = None) -> Target:
    """What a dotted name such as `torch.optim.AdamW` stands for, without importing anything.

    path: where to look for modules; sys.path if None. Raises TargetError if a part of the name
    surely does not exist, or a source on the way cannot be parsed.
    """
    parts = target.split(".")
    if not all(part.isidentifier() for part in parts):
        raise TargetError(f"{target!r} is not a name such as package.module.function")
    lookup = Lookup(path)
    symbol: Symbol | None = lookup.places.top(parts[0])
    if symbol is None:
        raise _no_module(lookup, parts)
    for at, part in enumerate(parts[1:], 1):
        owner = symbol
        symbol = lookup.member(owner, part, module_first=at < len(parts) - 1)
        if symbol is None or _is_mistyped_module(lookup, owner, symbol, parts[at:]):
            raise _missing(lookup, owner, parts, at)
    if isinstance(symbol, Place) and symbol.sure:
        raise _is_module(lookup, symbol)
    return _described(lookup, target, symbol)


def _described(lookup: Lookup, name: str, found: Symbol) -> Target:
    if not isinstance(found, Definition):
        return Target(name, "unknown", file=found.file)
    is_class = isinstance(found.node, ast.ClassDef)
    line, file = found.node.lineno, found.source.place.file
    if {one.rpartition(".")[2] for one in decorators(found)} & {"property", "cached_property"}:
        return Target(name, "unknown", file=file, line=line)
    signature = _signature(lookup, found)
    target = Target(
        name,
        "class" if is_class else "function",
        signature.parameters,
        signature.open,
        file,
        line,
        first_sentence(doc_text(found)),
    )
    return target if found.sure and not _is_altered(lookup, found) else target.opened()


def _signature(lookup: Lookup, found: Definition) -> Signature:
    if isinstance(found.node, ast.ClassDef):
        return of_class(lookup, found)
    method = found.owner is not None and "staticmethod" not in decorators(found)
    return of_function(found.source, found.node, drop_first=method)


def _is_altered(lookup: Lookup, found: Definition) -> bool:
    """Whether a decorator gives a function other parameters than those it is written with."""
    if isinstance(found.node, ast.ClassDef):
        return False
    calls = (one.func if isinstance(one, ast.Call) else one for one in found.node.decorator_list)
    decorators = [lookup.expression(found.source, call) for call in calls]
    return any(isinstance(one, Definition) and _adds_parameters(one.node) for one in decorators)


def _adds_parameters(decorator: ast.AST) -> bool:
    """Whether it sets `__signature__`, or wraps in something like `f(*args, seed, **rest)`."""
    return any(
        (isinstance(node, ast.Attribute) and node.attr == "__signature__")
        or (isinstance(node, ast.FunctionDef) and bool(node.args.kwarg and node.args.kwonlyargs))
        for node in ast.walk(decorator)
    )


# ── what is wrong ───────────────────────────────────────────────────────────────────────────────


def _no_module(lookup: Lookup, parts: list[str]) -> TargetError:
    if len(parts) == 1 and hasattr(builtins, parts[0]):
        suggestions = [f"builtins.{parts[0]}"]
    else:
        near = nearest(parts[0], lookup.places.names(None))
        suggestions = [".".join([name, *parts[1:]]) for name in near]
    return _error(f"no module {parts[0]!r}", suggestions)


def _is_mistyped_module(lookup: Lookup, owner: Symbol, found: Symbol, rest: list[str]) -> bool:
    """Whether `optm` in `torch.optm.AdamW` is a typo, though torch makes some names as it runs.

    It is if it is all but the name of a submodule and stands nowhere in the package's source.
    """
    unknown = isinstance(found, Unreadable) and isinstance(owner, Place) and owner.inside
    source = read_source(owner) if unknown and len(rest) > 1 else None  # type: ignore[arg-type]
    if source is None or source.mentions(rest[0]):
        return False
    near = nearest(rest[0], lookup.places.names(source.place), limit=1)
    return bool(near) and edits(rest[0], near[0]) <= 2


def _missing(lookup: Lookup, owner: Symbol, parts: list[str], at: int) -> TargetError:
    """Part `at` of the name is not in what the parts before it name."""
    here, part, rest = ".".join(parts[:at]), parts[at], parts[at + 1 :]
    bound, modules = _bound(lookup, owner), _modules(lookup, owner)
    likely, others = (modules, bound) if rest else (bound, modules)
    names = nearest(part, _public(likely, part)) or nearest(part, _public(others, part))
    suggestions = [".".join([here, name, *rest]) for name in names]
    is_module = rest and isinstance(owner, Place) and owner.inside
    what = f"no module {here + '.' + part!r}" if is_module else f"{here} has no {part!r}"
    return _error(what, suggestions, _file(owner), _listed(lookup, owner))


def _is_module(lookup: Lookup, place: Place) -> TargetError:
    what = f"{place.name} is a module, not a function or class"
    return _error(what, [], _file(place), _listed(lookup, place))


def _error(
    what: str, suggestions: list[str], source: str = "", known: Sequence[str] = ()
) -> TargetError:
    hint = f"did you mean {either(suggestions)}?" if suggestions else known_names(known)
    return TargetError(what, suggestions, source, hint)


def _bound(lookup: Lookup, owner: Symbol) -> list[str]:
    """The names that the source of a module or class binds, those of star imports too."""
    if isinstance(owner, Definition):
        line = (one for one in lookup.mro(owner) if isinstance(one, Definition))
        return [name for one in line for name in one.scope().names]
    source = read_source(owner) if isinstance(owner, Place) else None
    if source is None:
        return []
    stars = (lookup.module(name) for name in source.scope.stars)
    read = (read_source(star) for star in stars if isinstance(star, Place))
    starred = [name for star in read if star for name in sorted(star.exports or ())]
    return [*source.scope.names, *starred]


def _modules(lookup: Lookup, owner: Symbol) -> list[str]:
    return lookup.places.names(owner) if isinstance(owner, Place) else []


def _public(names: list[str], typed: str) -> list[str]:
    """Without the private names, unless a private one was typed."""
    return [name for name in names if typed.startswith("_") or not name.startswith("_")]


def _listed(lookup: Lookup, owner: Symbol) -> list[str]:
    """What is worth a list when nothing is near: what is defined there, not what is imported."""
    source = read_source(owner) if isinstance(owner, Place) else None
    scope = owner.scope() if isinstance(owner, Definition) else source.scope if source else Scope()
    own = [name for name, found in scope.names.items() if isinstance(found[0].meaning, ast.stmt)]
    return _public([*own, *_modules(lookup, owner)], "")


def _file(owner: Symbol) -> str:
    place = owner.source.place if isinstance(owner, Definition) else owner
    return place.file or ""
