"""The parameters of a function, from its source."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from crown_exp.config.kinds import ANY, NONE, Kind, check, dotted_name, kind_of_annotation, union
from crown_exp.config.targets.base import NOT_LITERAL, Parameter
from crown_exp.config.targets.docs import constant_text, parameter_docs
from crown_exp.config.targets.lookup import Definition
from crown_exp.config.targets.source import Function, Source


@dataclass(frozen=True)
class Signature:
    """Parameters by name; `open` if there may be more."""

    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    open: bool = True

    def documented(self, text: str) -> Signature:
        """With what a docstring says; it wins over what was said already."""
        docs = parameter_docs(text) if text else {}
        told = {
            name: replace(one, doc=docs[name]) if name in docs else one
            for name, one in self.parameters.items()
        }
        return Signature(told, self.open)


def decorators(found: Definition) -> set[str]:
    """The dotted names of the decorators of a definition."""
    names = found.source.names
    calls = (one.func if isinstance(one, ast.Call) else one for one in found.node.decorator_list)
    return {dotted_name(one, names) for one in calls}


def doc_text(found: Definition) -> str:
    """The docstring of a definition: its own, or assigned to its `__doc__`."""
    if (text := ast.get_docstring(found.node, clean=False)) is not None:
        return text
    if isinstance(found.node, ast.ClassDef) and (own := found.scope().names.get("__doc__")):
        meaning = own[-1].meaning
        return constant_text(meaning) if isinstance(meaning, ast.expr) else ""
    assigned = None if found.owner else found.source.scope.docs.get(found.node.name)
    return constant_text(assigned)


def of_function(source: Source, node: Function, drop_first: bool = False) -> Signature:
    """What can be given by keyword; a config cannot give what is positional only."""
    args = node.args
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    positional = list(zip(plain, defaults, strict=True))[len(args.posonlyargs) :]
    if drop_first and not args.posonlyargs:
        positional = positional[1:]
    keyword = list(zip(args.kwonlyargs, args.kw_defaults, strict=True))
    parameters = [
        *(parameter(source, arg.arg, arg, one, True) for arg, one in positional),
        *(parameter(source, arg.arg, arg, one, False) for arg, one in keyword),
    ]
    found = Signature({one.name: one for one in parameters}, args.kwarg is not None)
    return found.documented(ast.get_docstring(node, clean=False) or "")


def parameter(
    source: Source,
    name: str,
    node: ast.arg | ast.AnnAssign,
    default: ast.expr | None,
    positional: bool,
) -> Parameter:
    """One parameter, or field, that `node` writes with this default."""
    annotation, value = node.annotation, literal(default)
    return Parameter(
        name,
        kind=_admitting(kind_of_annotation(annotation, source.names), value),
        required=default is None,
        default_text=None if default is None else source.text(default),
        default=value,
        positional=positional,
        is_config=annotation is not None and _is_config(annotation, source),
        annotation_text=_annotation_text(annotation, source),
        file=source.place.file,
        line=node.lineno,
    )


def literal(node: ast.expr | None) -> object:
    """The value of a literal; NOT_LITERAL for anything else."""
    try:
        return NOT_LITERAL if node is None else ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return NOT_LITERAL


def _admitting(kind: Kind, default: object) -> Kind:
    """The kind, widened if it does not admit the parameter's own default (`x: int = None`)."""
    if default is NOT_LITERAL or check(kind, default) is None:
        return kind
    return union([kind, NONE]) if default is None else ANY


def _annotation_text(node: ast.expr | None, source: Source) -> str:
    if node is None:
        return ""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return source.text(node)


def _is_config(node: ast.expr, source: Source) -> bool:
    """Whether an annotation says our `Config[…]`, be it quoted, optional or annotated."""
    match node:
        case ast.Constant(value=str(text)):
            try:
                return _is_config(ast.parse(text, mode="eval").body, source)
            except (SyntaxError, ValueError):
                return False
        case ast.BinOp(left=left, right=right):
            return _is_config(left, source) or _is_config(right, source)
        case ast.Subscript(value=value, slice=inner):
            if _is_config(value, source):
                return True
            head = dotted_name(value, source.names).rpartition(".")[2]
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            wraps = head in ("Optional", "Union", "Annotated")
            return wraps and any(_is_config(part, source) for part in parts)
    home, _, last = dotted_name(node, source.names).rpartition(".")
    return last == "Config" and home.partition(".")[0] in ("", "crown_exp")
