"""Runs as a table of pandas."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crown_exp.errors import CrownError
from crown_exp.registry.values import ALONE, leaves

if TYPE_CHECKING:
    import pandas

    from crown_exp.registry.base import RunInfo

ABSENT = object()
OWN = ("name", "tags")
"""Keys of the config that a run's own columns tell."""


def need_pandas(what: str) -> Any:
    """pandas. Raises CrownError if it is not installed."""
    try:
        import pandas
    except ImportError:
        raise CrownError(f"{what} needs pandas: pip install pandas") from None
    return pandas


def frame(
    runs: Sequence[RunInfo], configs: Mapping[str, Any], columns: Sequence[str]
) -> pandas.DataFrame:
    """A row a run, by id. configs: of each run, by id. columns: those that were asked for."""
    pandas = need_pandas("runs().to_pandas")
    index = pandas.Index([run.id for run in runs], name="id", dtype="str")
    table: dict[str, Any] = {
        "name": pandas.Series([run.name for run in runs], index, dtype="str"),
        "state": pandas.Series([str(run.state) for run in runs], index, dtype="str"),
        "experiment": pandas.Series([run.experiment for run in runs], index, dtype="str"),
        "created": pandas.Series([run.created for run in runs], index, dtype="datetime64[us, UTC]"),
        "step": pandas.Series([run.step for run in runs], index, dtype="int64"),
        "tags": pandas.Series([list(run.tags) for run in runs], index, dtype="object"),
    }
    for name in columns:
        table.setdefault(name, [run.values.get(name) for run in runs])
    differing = differences([dict(leaves(configs.get(run.id) or {})) for run in runs])
    for name, values in differing.items():
        if name not in OWN:
            table.setdefault(name, values)
    for name, values in beside([results(run.result) for run in runs]).items():
        known = table.keys() - set(columns)
        table[f"result.{name}" if name in known else name] = values
    return pandas.DataFrame(table, index=index)


def results(result: Any) -> dict[str, Any]:
    """What a task returned, by name."""
    if result is None:
        return {}
    return dict(leaves(result)) if isinstance(result, Mapping) else {ALONE: result}


def beside(trees: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Each name of any tree, in the order they come, with its value in every tree or None."""
    names = dict.fromkeys(name for tree in trees for name in tree)
    return {name: [tree.get(name) for tree in trees] for name in names}


def differences(trees: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """As `beside`, of the names whose values are not the same in all."""
    return {name: values for name, values in beside(trees).items() if not same(name, trees)}


def same(name: str, trees: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all trees say the same of a name, or nothing."""
    return len({spelled(tree.get(name, ABSENT)) for tree in trees}) <= 1


def spelled(value: Any) -> str:
    """A value as text: 1 and 1.0 are not the same, nor are 1 and true."""
    return "" if value is ABSENT else json.dumps(value, sort_keys=True, default=str)
