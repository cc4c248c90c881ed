"""What calling a class takes: a constructor, written, generated from fields or inherited."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace

from crown_exp.config.kinds import constrained, constraint, dotted_name
from crown_exp.config.targets.base import NOT_LITERAL, Parameter
from crown_exp.config.targets.docs import first_sentence
from crown_exp.config.targets.lookup import Definition, Line, Lookup, Unreadable
from crown_exp.config.targets.signature import (
    Signature,
    decorators,
    doc_text,
    literal,
    of_function,
    parameter,
)
from crown_exp.config.targets.source import Function, Source

UNREADABLE = Signature()
PYDANTIC = ("pydantic.main.BaseModel", "pydantic.BaseModel")
FACTORIES: dict[str, object] = {"list": [], "dict": {}, "tuple": ()}


def of_class(lookup: Lookup, cls: Definition) -> Signature:
    """The first constructor in the order in which Python asks a class and its bases."""
    own = _constructor(cls)
    if own and not own.open:
        return own.documented(doc_text(cls))
    line = lookup.mro(cls)
    found = _of_line(line).documented(doc_text(cls))
    return replace(found, open=found.open or (own is None and any(map(_is_special, line))))


def _of_line(line: Line) -> Signature:
    """With `**kwargs`, what the rest of the line takes may be given too, and need not be."""
    for at, one in enumerate(line):
        if isinstance(one, Unreadable):
            return UNREADABLE
        found = _constructor(one) or _generated(one, line[at:])
        if found is None:
            continue
        if not found.open or found is UNREADABLE:
            return found.documented(doc_text(one))
        inherited = _of_line(line[at + 1 :]).parameters
        optional = {name: replace(each, required=False) for name, each in inherited.items()}
        merged = Signature({**found.parameters, **optional, **found.parameters})
        return merged.documented(doc_text(one))
    return Signature(open=False)


def _constructor(cls: Definition) -> Signature | None:
    """The class's own `__init__`, else its own `__new__`."""
    names = cls.scope().names
    bindings = names.get("__init__") or names.get("__new__")
    if not bindings:
        return None
    if len(bindings) > 1 or not isinstance(node := bindings[0].meaning, Function):
        return UNREADABLE
    found = of_function(cls.source, node, drop_first=True)
    return replace(found, open=found.open or _is_special(cls))


def _is_special(cls: Definition | Unreadable) -> bool:
    """Whether a class makes its subclasses' constructors, or their calls, in ways of its own."""
    if isinstance(cls, Unreadable) or cls.full_name in PYDANTIC:
        return False
    if not isinstance(cls.node, ast.ClassDef):
        return False
    if any(dotted_name(base, cls.source.names).startswith("enum.") for base in cls.node.bases):
        return True
    metas = (word.value for word in cls.node.keywords if word.arg == "metaclass")
    plain = all(_last(meta, cls.source) in ("ABCMeta", "type") for meta in metas)
    transforms = any(name.endswith("dataclass_transform") for name in decorators(cls))
    return not plain or transforms or "__init_subclass__" in cls.scope().names


def _last(node: ast.expr, source: Source) -> str:
    return dotted_name(node, source.names).rpartition(".")[2]


# ── constructors made from annotated fields ─────────────────────────────────────────────────────


def _generated(cls: Definition, line: Line) -> Signature | None:
    """Of a dataclass, a NamedTuple or a pydantic model; None if the class is none of these."""
    if any(name.partition(".")[0] in ("attr", "attrs") for name in decorators(cls)):
        return UNREADABLE
    if _dataclass_options(cls).get("init", True) and _is_dataclass(cls):
        return _collected(line, _is_dataclass)
    if isinstance(cls.node, ast.ClassDef) and any(
        _last(base, cls.source) == "NamedTuple" for base in cls.node.bases
    ):
        return _collected([cls], lambda one: True)
    if any(isinstance(one, Definition) and one.full_name in PYDANTIC for one in line):
        models = _collected(line, lambda one: not one.full_name.startswith("pydantic"))
        return replace(models, open=models.open or any(map(_is_lax, line)))
    return None


def _collected(line: Line, applies: Callable[[Definition], bool]) -> Signature:
    """The fields of the classes that count, those of bases first; a field again keeps its place."""
    parameters: dict[str, Parameter] = {}
    for one in reversed(line):
        if isinstance(one, Definition) and applies(one):
            docs = Signature({each.name: each for each in _fields(one)}).documented(doc_text(one))
            parameters |= docs.parameters
    return Signature(parameters, any(isinstance(one, Unreadable) for one in line))


def _is_dataclass(cls: Definition) -> bool:
    return any(name.rpartition(".")[2] == "dataclass" for name in decorators(cls))


def _dataclass_options(cls: Definition) -> dict[str, object]:
    """What `@dataclass(…)` says."""
    calls = (one for one in cls.node.decorator_list if isinstance(one, ast.Call))
    return {
        str(word.arg): literal(word.value)
        for call in calls
        if _last(call.func, cls.source) == "dataclass"
        for word in call.keywords
    }


def _is_lax(one: Definition | Unreadable) -> bool:
    """Whether a pydantic model says that it takes other names than those of its fields."""
    if isinstance(one, Unreadable) or one.full_name in PYDANTIC:
        return False
    names = one.scope().names
    said = [binding.meaning for key in ("model_config", "Config") for binding in names.get(key, ())]
    said += [node.value for node in one.node.body if isinstance(node, ast.AnnAssign) and node.value]
    texts = [ast.unparse(node) for node in said if isinstance(node, ast.AST)]
    return any("allow" in text or "alias" in text for text in texts)


def _fields(cls: Definition) -> Iterator[Parameter]:
    """The annotated fields of one class that its constructor takes."""
    positional = _dataclass_options(cls).get("kw_only") is not True
    body = cls.node.body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        head = _head(node.annotation, cls.source)
        if head == "KW_ONLY":
            positional = False
        elif head != "ClassVar" and (one := _field(cls.source, node, node.target.id, positional)):
            doc = literal(after.value) if isinstance(after, ast.Expr) else ""
            yield replace(one, doc=first_sentence(doc)) if isinstance(doc, str) and doc else one


def _head(node: ast.expr, source: Source) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.partition("[")[0].rpartition(".")[2]
    return _last(node.value if isinstance(node, ast.Subscript) else node, source)


def _field(source: Source, node: ast.AnnAssign, name: str, positional: bool) -> Parameter | None:
    """A field as a parameter; None if the constructor does not take it."""
    call = node.value
    if not isinstance(call, ast.Call) or _last(call.func, source) not in ("field", "Field"):
        return parameter(source, name, node, call, positional)
    words = {str(word.arg): word.value for word in call.keywords}
    if "init" in words and literal(words["init"]) is False:
        return None
    positional = positional and not ("kw_only" in words and literal(words["kw_only"]) is True)
    default = words.get("default", call.args[0] if call.args else None)
    if default is not None and literal(default) is ...:
        default = None
    found = parameter(source, name, node, default, positional)
    said = constraint(call)
    found = replace(
        found, kind=constrained(found.kind, said), doc=first_sentence(_description(said))
    )
    factory = words.get("default_factory")
    return found if factory is None else _made(found, factory, source)


def _description(said: dict[str, object]) -> str:
    text = said.get("description", "")
    return text if isinstance(text, str) else ""


def _made(found: Parameter, factory: ast.expr, source: Source) -> Parameter:
    """The field with the default that its factory makes."""
    name = _last(factory, source)
    value = FACTORIES.get(name, NOT_LITERAL)
    return replace(found, required=False, default=value, default_text=f"{source.text(factory)}()")
