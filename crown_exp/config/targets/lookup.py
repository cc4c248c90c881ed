"""From a dotted name to its definition, through imports, stars and aliases of any files."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from crown_exp.config.kinds import dotted_name
from crown_exp.config.targets.base import TargetError
from crown_exp.config.targets.places import Place, Places
from crown_exp.config.targets.source import (
    Binding,
    Def,
    Import,
    Scope,
    Source,
    read_source,
    scope_of,
)

STARS = 40
"""How many `from … import *` are followed for one target; a library of more is taken as unknown."""

WITHOUT_CONSTRUCTOR = {
    *("object", "builtins.object", "abc.ABC", "typing.Generic", "typing.Protocol"),
    *("typing_extensions.Generic", "typing_extensions.Protocol"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A function or class that was found.

    owner: the class whose method it is. sure: no `if` may have chosen another one.
    """

    source: Source
    node: Def
    owner: ast.ClassDef | None = None
    sure: bool = True

    @property
    def full_name(self) -> str:
        """Where it is defined."""
        return f"{self.source.place.name}.{self.node.name}"

    def scope(self) -> Scope:
        """The names of a class."""
        return scope_of(self.node.body)


@dataclass(frozen=True, slots=True, eq=False)
class Unreadable:
    """Something that exists, or may exist, and whose source does not say what it is."""

    file: str | None = None


Symbol = Place | Definition | Unreadable
Line = list[Definition | Unreadable]


class Lookup:
    """Resolves names on one search path."""

    def __init__(self, path: Sequence[str] | None = None) -> None:
        self.places = Places(path)
        self._following: set[tuple[str, str]] = set()
        self._stars = STARS

    def member(self, owner: Symbol, name: str, module_first: bool = False) -> Symbol | None:
        """A name of a module, package or class; None if there surely is none.

        module_first: take a submodule without reading the package; as an import statement would.
        """
        if isinstance(owner, Unreadable):
            return owner
        if isinstance(owner, Definition):
            return self._class_member(owner, name)
        if module_first and (child := self.places.child(owner, name)):
            return child
        found = self._attribute(owner, name)
        if isinstance(found, Definition | Place):
            return found
        child = self.places.child(owner, name)
        return replace(child, sure=False) if child and found else child or found

    def module(self, dotted: str) -> Symbol | None:
        """What `import a.b.c` gives."""
        top, *rest = dotted.split(".")
        symbol: Symbol | None = self.places.top(top)
        for part in rest:
            symbol = self.member(symbol, part, module_first=True) if symbol else None
        return symbol

    def expression(self, source: Source, node: ast.expr) -> Symbol | None:
        """What a name or attribute in a module means; None for a builtin or nothing."""
        if isinstance(node, ast.Name):
            return self._attribute(source.place, node.id)
        if isinstance(node, ast.Attribute):
            owner = self.expression(source, node.value)
            return self.member(owner, node.attr) if owner else None
        return Unreadable(source.place.file)

    def _attribute(self, place: Place, name: str) -> Symbol | None:
        """A top-level name of a module's source; None if it has none or is about to define it."""
        if place.opaque:
            return Unreadable(place.file)
        source = read_source(place)
        if source is None or (key := (place.name, name)) in self._following:
            return None
        self._following.add(key)
        try:
            if bindings := source.scope.names.get(name):
                return self._choose(source, bindings)
            return self._from_stars(source, name) or (
                Unreadable(place.file) if source.dynamic else None
            )
        finally:
            self._following.discard(key)

    def _choose(self, source: Source, bindings: list[Binding]) -> Symbol:
        """The first binding that can be followed; not sure if another one may have happened."""
        sure = len(bindings) == 1 or all(binding.branch == "try" for binding in bindings)
        for binding in bindings:
            found = self._attempt(source, binding)
            sure = sure and not isinstance(found, Unreadable)
            if isinstance(found, Definition):
                return replace(found, sure=found.sure and sure and not self._is_covered(source))
            if isinstance(found, Place) and sure:
                return found
        return Unreadable(source.place.file)

    def _attempt(self, source: Source, binding: Binding) -> Symbol | None:
        """Where it depends, a file that does not parse may be one for another Python."""
        try:
            return self._follow(source, binding.meaning)
        except TargetError:
            if not binding.branch:
                raise
            return Unreadable(source.place.file)

    def _is_covered(self, source: Source) -> bool:
        """Whether a star import from C may hide what the module defines, as in `datetime`."""
        return any(
            isinstance(module := self.module(star), Place) and module.opaque
            for star in source.scope.stars
        )

    def _follow(self, source: Source, meaning: Def | Import | ast.expr | None) -> Symbol | None:
        if isinstance(meaning, Def):
            return Definition(source, meaning)
        if isinstance(meaning, Import):
            module = self.module(meaning.module)
            if module is None or not meaning.name:
                return module
            return self.member(module, meaning.name)
        if isinstance(meaning, ast.Name | ast.Attribute):
            return self.expression(source, meaning)
        return Unreadable(source.place.file)

    def _from_stars(self, source: Source, name: str) -> Symbol | None:
        """What a later star import gives hides what an earlier one does."""
        for dotted in reversed(source.scope.stars):
            self._stars -= 1
            module = self.module(dotted) if self._stars >= 0 else None
            if not isinstance(module, Place) or module.opaque:
                return Unreadable(source.place.file)
            read = read_source(module)
            if read is None or not (read.exports is None or self._exports(read, name)):
                continue
            if found := self.member(module, name):
                return found
        return None

    def _exports(self, source: Source, name: str) -> bool:
        listed = name in (source.exports or ())
        return listed or (not source.scope.exports and not name.startswith("_"))

    def _class_member(self, owner: Definition, name: str) -> Symbol | None:
        if not isinstance(owner.node, ast.ClassDef):
            return Unreadable(owner.source.place.file)
        for one in self.mro(owner):
            if isinstance(one, Unreadable):
                return one
            if bindings := one.scope().names.get(name):
                return self._method(one, bindings)
        assigned = owner.source.mentions(f"{owner.node.name}.{name}")
        return Unreadable(owner.source.place.file) if assigned else None

    def _method(self, owner: Definition, bindings: list[Binding]) -> Symbol:
        meaning = bindings[0].meaning
        if (
            not isinstance(meaning, Def)
            or len(bindings) > 1
            or not isinstance(owner.node, ast.ClassDef)
        ):
            return Unreadable(owner.source.place.file)
        return Definition(owner.source, meaning, owner.node)

    def mro(self, cls: Definition) -> Line:
        """The class and its bases in the order in which Python asks them; object is left out.

        Source: C3 linearization (Barrett et al. 1996), as in Python's method resolution order.
        """
        key = (cls.full_name, "<bases>")
        if key in self._following or not isinstance(cls.node, ast.ClassDef):
            return [Unreadable()]
        self._following.add(key)
        try:
            bases = list(self._bases(cls, cls.node))
            lines: list[Line] = []
            for one in bases:
                lines.append(self.mro(one) if isinstance(one, Definition) else [one])
        finally:
            self._following.discard(key)
        return [cls, *_merged([*lines, bases])]

    def _bases(self, cls: Definition, node: ast.ClassDef) -> Iterator[Definition | Unreadable]:
        for base in node.bases:
            expression = base.value if isinstance(base, ast.Subscript) else base
            dotted = dotted_name(expression, cls.source.names)
            if dotted in WITHOUT_CONSTRUCTOR:
                continue
            special = dotted.startswith(("typing.", "typing_extensions."))
            found = None if special else self.expression(cls.source, expression)
            is_class = isinstance(found, Definition) and isinstance(found.node, ast.ClassDef)
            yield found if isinstance(found, Definition) and is_class else Unreadable()


def _merged(lines: Iterable[Line]) -> Line:
    """The C3 merge; what cannot be ordered ends in something unreadable."""
    rest = [list(line) for line in lines if line]
    merged: Line = []
    while rest:
        tails = {_identity(one) for line in rest for one in line[1:]}
        head = next((line[0] for line in rest if _identity(line[0]) not in tails), None)
        if head is None:
            return [*merged, Unreadable()]
        merged.append(head)
        kept = ([one for one in line if _identity(one) != _identity(head)] for line in rest)
        rest = [line for line in kept if line]
    return merged


def _identity(one: Definition | Unreadable) -> int:
    return id(one.node) if isinstance(one, Definition) else id(one)
