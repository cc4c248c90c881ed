"""From an annotation, in source or as a real type, to the `Kind` of values it accepts."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace

from crown_exp.config.values import ANY, NONE, Bounds, Kind, Number, check, shown

__all__ = [
    "ANY",
    "NONE",
    "Bounds",
    "Kind",
    "Names",
    "check",
    "constrained",
    "constraint",
    "dotted_name",
    "kind_of_annotation",
    "kind_of_type",
    "shown",
    "union",
]

Names = Mapping[str, str | ast.expr]
"""What the names around an annotation stand for: a dotted name (import, class), or an alias."""

HOMES = {
    *(
        "builtins",
        "collections",
        "collections.abc",
        "dataclasses",
        "os",
        "pathlib",
        "pathlib._local",
    ),
    *("types", "typing", "typing_extensions", "annotated_types", "pydantic", "torch"),
}
"""Where the types known here live. A type of the same name from elsewhere is another type."""

SCALARS = {
    "int": Kind("int"),
    "float": Kind("float"),
    "bool": Kind("bool"),
    "str": Kind("str"),
    "LiteralString": Kind("str"),
    "None": NONE,
    "NoneType": NONE,
    "Tensor": Kind("tensor"),
    **dict.fromkeys(("Path", "PurePath", "PosixPath", "PathLike"), Kind("str")),
    "PositiveInt": Kind("int", bounds=Bounds(gt=0)),
    "PositiveFloat": Kind("float", bounds=Bounds(gt=0)),
    "NonNegativeInt": Kind("int", bounds=Bounds(ge=0)),
    "NonNegativeFloat": Kind("float", bounds=Bounds(ge=0)),
}
LISTS = {
    *("list", "List", "Sequence", "MutableSequence", "Iterable", "Collection", "deque", "Deque"),
    *("set", "Set", "frozenset", "FrozenSet", "AbstractSet", "MutableSet"),
}
DICTS = {
    *("dict", "Dict", "Mapping", "MutableMapping", "OrderedDict", "defaultdict", "DefaultDict"),
}
WRAPPERS = {"ClassVar", "Final", "InitVar", "NotRequired", "ReadOnly", "Required"}
ELLIPSIS = Kind("ellipsis")

LIMITS = {field.name for field in fields(Bounds)}
CONSTRAINTS: dict[str, tuple[str, ...]] = {
    "Gt": ("gt",),
    "Ge": ("ge",),
    "Lt": ("lt",),
    "Le": ("le",),
    "MultipleOf": ("multiple_of",),
    "MinLen": ("min_length",),
    "MaxLen": ("max_length",),
    "Len": ("min_length", "max_length"),
    "Interval": (),
    "Field": (),
    "Meta": (),
    "Doc": ("documentation",),
}
"""The calls that are understood inside `Annotated`, with what their positional arguments mean."""


def union(kinds: Iterable[Kind]) -> Kind:
    """Any of several kinds, in its simplest form: flat, each once, literals as one, null last."""
    flat = [one for kind in kinds for one in (kind.items if kind.name == "union" else (kind,))]
    real = [kind for kind in dict.fromkeys(flat) if kind.name not in ("none", "tensor")]
    if any(kind.open for kind in real) or (not real and any(kind.open for kind in flat)):
        return ANY
    literals = [kind for kind in real if kind.name == "literal"]
    if len(literals) > 1:
        choices = tuple(choice for kind in literals for choice in kind.choices)
        real = [kind for kind in real if kind not in literals] + [Kind("literal", choices=choices)]
    members = (*real, *([NONE] if any(kind.name == "none" for kind in flat) else []))
    return members[0] if len(members) == 1 else Kind("union", members)


def bounded(kind: Kind, limits: Mapping[str, Number]) -> Kind:
    """The kind with limits: of length for what has one, else of size; in each member of a union."""
    if kind.name == "union":
        return replace(kind, items=tuple(bounded(item, limits) for item in kind.items))
    if kind.name not in ("int", "float", "str", "list", "dict"):
        return kind
    number = kind.name in ("int", "float")
    apt = {key: value for key, value in limits.items() if key.endswith("length") != number}
    return replace(kind, bounds=replace(kind.bounds, **apt))  # type: ignore[arg-type]


def constrained(kind: Kind, said: Mapping[str, object]) -> Kind:
    """The kind with what its metadata says: limits by name, and `doc`."""
    limits = {
        key: value
        for key, value in said.items()
        if key in LIMITS and isinstance(value, int | float) and not isinstance(value, bool)
    }
    doc = next((said[key] for key in ("doc", "documentation", "description") if said.get(key)), "")
    return replace(bounded(kind, limits), doc=str(doc) or kind.doc)


def _generic(head: str, args: Sequence[Kind]) -> Kind:
    """The kind of `head[args]`; any if the head is not known."""
    if head in SCALARS:
        return SCALARS[head]
    if head in LISTS:
        return Kind("list", tuple(args[:1]))
    if head in DICTS:
        return Kind("dict", tuple(args[1:2]))
    if head in ("tuple", "Tuple"):
        fixed = len(args) > 0 and ELLIPSIS not in args
        return Kind("tuple", tuple(args)) if fixed else Kind("list", tuple(args[:1]))
    if head in ("Union", "UnionType"):
        return union(args)
    if head == "Optional":
        return union([*args, NONE])
    return args[0] if head in WRAPPERS and args else ANY


def _literal(choices: Sequence[object]) -> Kind:
    if all(choice is None for choice in choices):
        return NONE
    plain = all(type(choice) in (int, str, bool, type(None)) for choice in choices)
    return Kind("literal", choices=tuple(choices)) if plain else ANY


# ── source ──────────────────────────────────────────────────────────────────────────────────────


def dotted_name(node: ast.expr, names: Names) -> str:
    """`a.b.c` of a name or attribute, its first part replaced by what it stands for; else empty."""
    if isinstance(node, ast.Attribute):
        owner = dotted_name(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    if not isinstance(node, ast.Name):
        return ""
    meaning = names.get(node.id, node.id)
    return meaning if isinstance(meaning, str) else node.id


def _head(node: ast.expr, names: Names) -> str:
    """The last part of a dotted name if it is from where the types known here live."""
    home, _, last = dotted_name(node, names).rpartition(".")
    return last if not home or home in HOMES else ""


def kind_of_annotation(node: ast.expr | None, names: Names | None = None) -> Kind:
    """The kind an annotation means. Strings are read as annotations; no annotation is any.

    names: what the names of its module stand for; without them, names mean what they say.
    """
    return ANY if node is None else _read(node, names or {})


def _read(node: ast.expr, names: Names) -> Kind:
    match node:
        case ast.Constant(value=None):
            return NONE
        case ast.Constant(value=value):
            return ELLIPSIS if value is ... else _read_text(value, names)
        case ast.Name(id=name) if isinstance(alias := names.get(name), ast.expr):
            return _read(alias, {key: names[key] for key in names if key != name})
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return union([_read(left, names), _read(right, names)])
        case ast.Subscript(value=value, slice=inner):
            args = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return _read_subscript(_head(value, names), args, names)
    return _generic(_head(node, names), ())


def _read_text(text: object, names: Names) -> Kind:
    try:
        return _read(ast.parse(text, mode="eval").body, names) if isinstance(text, str) else ANY
    except (SyntaxError, ValueError):
        return ANY


def _read_subscript(head: str, args: list[ast.expr], names: Names) -> Kind:
    if head == "Literal":
        return _literal([_constant(arg) for arg in args])
    if head == "Annotated":
        said: dict[str, object] = {}
        for arg in args[1:]:
            said |= constraint(arg)
        return constrained(_read(args[0], names), said)
    return _generic(head, [_read(arg, names) for arg in args])


def _constant(node: ast.expr) -> object:
    """A literal's value; a node that is none stands for itself."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return node


def constraint(node: ast.expr) -> dict[str, object]:
    """What `Gt(0)`, `Interval(ge=0, le=1)`, `Field(gt=0, description=…)` or a plain string says."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {"doc": node.value}
    if not isinstance(node, ast.Call):
        return {}
    meanings = CONSTRAINTS.get(dotted_name(node.func, {}).rpartition(".")[2])
    if meanings is None:
        return {}
    said = dict(zip(meanings, map(_constant, node.args), strict=False))
    return said | {word.arg: _constant(word.value) for word in node.keywords if word.arg}


# ── real types ──────────────────────────────────────────────────────────────────────────────────


def kind_of_type(tp: object) -> Kind:
    """The kind a type means, as `typing.get_type_hints(…, include_extras=True)` gives it."""
    import typing

    if isinstance(text := getattr(tp, "__forward_arg__", tp), str):
        return _read_text(text, {})
    if tp is None or tp is ...:
        return NONE if tp is None else ELLIPSIS
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if origin is typing.Annotated:
        said: dict[str, object] = {}
        for one in args[1:]:
            said |= _metadata(one)
        return constrained(kind_of_type(args[0]), said)
    if origin is typing.Literal:
        return _literal(args)
    if (alias := getattr(tp, "__value__", None)) is not None:
        return kind_of_type(alias)
    head = origin if origin is not None else tp
    known = getattr(head, "__module__", "") in HOMES
    name = getattr(head, "__name__", "") or getattr(head, "_name", "") or ""
    return _generic(name if known else "", [kind_of_type(arg) for arg in args])


def _metadata(one: object) -> dict[str, object]:
    """What an object inside `Annotated` says, by the names of its attributes."""
    if isinstance(one, str):
        return {"doc": one}
    said: dict[str, object] = {}
    for part in getattr(one, "metadata", None) or ():
        said |= _metadata(part)
    words = (*LIMITS, "documentation", "description")
    return said | {word: value for word in words if (value := getattr(one, word, None)) is not None}
