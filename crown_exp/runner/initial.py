"""The weights that a new run's modules begin with: `checkpoint.init_from`, `checkpoint.init_map`.

They are copied into a module when the task tracks it, in every attempt alike, so that what a task makes of
its modules before the loop (a frozen copy to compare with) is the same in each of them. A state that is to be
put back comes over them before the first turn. Nothing is drawn at random here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crown_exp.checkpoints.base import Restored
from crown_exp.checkpoints.renaming import (
    Renamed,
    few,
    fitting,
    joined,
    nearest,
    renamed,
    suggested,
)
from crown_exp.config.project import find_project
from crown_exp.config.settings import store_access
from crown_exp.errors import ConfigError, CrownError, NotResumable
from crown_exp.folder.records import Damaged
from crown_exp.runner.initial_source import Form, Source, gone, open_source
from crown_exp.runner.weights import is_lazy

if TYPE_CHECKING:
    from crown_exp.runner.call import Call
    from crown_exp.runner.context import Run

MOST_NAMES = 50
"""Names of each kind that are recorded."""


@dataclass
class Report:
    """What became of the tensors of tracked modules, by their names here; `unused` by their names there.

    cast: how the dtype of a matched one changes. other: how shapes or dtypes differ. shapeless: without data,
    or of a part that takes its shapes from the first batch.
    """

    matched: list[str] = field(default_factory=list)
    cast: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    other: dict[str, str] = field(default_factory=dict)
    shapeless: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The tensors that there are here."""
        return len(self.matched) + len(self.missing) + len(self.other) + len(self.shapeless)

    def line(self, source: str) -> str:
        """For people: counts, and the first names."""
        said = [f"weights from {source}: {len(self.matched)} of {self.total} tensors"]
        if self.missing:
            said.append(f"not there, as made: {few(self.missing)}")
        if self.other:
            told = [f"{name} ({how})" for name, how in self.other.items()]
            said.append(f"of another form, as made: {few(told)}")
        if self.shapeless:
            said.append(f"without a shape before the first batch, as made: {few(self.shapeless)}")
        if self.unused:
            said.append(f"not taken: {few(self.unused)}")
        for how in dict.fromkeys(self.cast.values()):
            count = sum(it == how for it in self.cast.values())
            said.append(f"{count} cast from {how}")
        return "; ".join(said)

    def data(self) -> dict[str, Any]:
        """For the log: counts, and at most so many names of each kind."""
        lists = {
            "missing": self.missing, "other": list(self.other), "shapeless": self.shapeless,
            "unused": self.unused, "cast": list(self.cast),
        }  # fmt: skip
        return {
            "matched": len(self.matched), "of": self.total,
            **{kind: names[:MOST_NAMES] for kind, names in lists.items() if names},
            **{f"{kind}_in_all": len(it) for kind, it in lists.items() if len(it) > MOST_NAMES},
        }  # fmt: skip


@dataclass
class Initial:
    """Weights for modules that are tracked.

    source: where they come from. rules: of names there to names here. resumed: a state is put back over them,
    so that what is told of them was told before. say: shows a line. record: keeps what became of them.
    """

    source: Source
    rules: Mapping[str, str | None]
    resumed: bool
    say: Callable[[str], None]
    record: Callable[..., None]

    def __post_init__(self) -> None:
        self.forms = self.source.forms
        try:
            self.names: Renamed = renamed(list(self.forms), self.rules)
        except ConfigError as error:
            raise NotResumable(str(error)) from None
        self.there = {new: old for old, new in self.names.here.items()}
        self.report = Report()
        self.taken: set[str] = set()
        self.told: int | None = None
        self.failed = False

    def give(self, name: str, module: Any) -> None:
        """Copy into a module, tracked under a name, what fits it.

        Raises NotResumable if the source is damaged, StoreError if it cannot be read; if a state is put back
        anyway, a line says so.
        """
        if self.failed:
            return
        try:
            self.fill(name, module)
        except CrownError as error:
            if isinstance(error, Damaged):
                error = gone(self.source.words, str(error))
            if not self.resumed:
                raise error from None
            self.failed = True
            self.say(unread(self.source.words, str(error)))

    def fill(self, name: str, module: Any) -> None:
        """As `give`."""
        places = places_of(module)
        found = fitting(name, list(places), self.there, bare=self.source.bare)
        shapeless = without_shape(places, found)
        wrong: dict[str, str] = {}
        wanted: dict[str, list[str]] = {}
        for place, there in found.items():
            if place in shapeless:
                continue
            if how := misfit(self.forms[there], places[place]):
                wrong[place] = how
            else:
                wanted.setdefault(there, []).append(place)
        sources = {place: there for there, several in wanted.items() for place in several}
        # before they are copied: a cast is seen by the dtypes
        self.note(name, places, sources, wrong, shapeless)
        for there, tensor in self.source.read(list(wanted)):
            for place in wanted[there]:
                put(tensor, places[place])

    def note(
        self, name: str, places: Mapping[str, Any], sources: Mapping[str, str],
        wrong: Mapping[str, str], shapeless: Collection[str],
    ) -> None:  # fmt: skip
        """What becomes of the tensors of a module. sources: the names there of those that are filled."""
        report, filled = self.report, {id(places[place]) for place in sources}
        self.taken.update(sources.values())
        for place, tensor in places.items():
            whole = joined(name, place)
            if place in shapeless:
                report.shapeless.append(whole)
            elif id(tensor) in filled:  # of tied ones one name is enough
                report.matched.append(whole)
            elif place in wrong:
                report.other[whole] = wrong[place]
            else:
                report.missing.append(whole)
            if place in sources:
                was, now = self.forms[sources[place]].dtype, dtype_of(tensor)
                if was != now:
                    report.cast[whole] = f"{was} to {now}"

    def settle(self) -> None:
        """What was tracked is filled: tell it, once. Raises NotResumable if nothing was found at all."""
        if self.resumed or self.told == self.report.total:
            return
        if not self.report.matched:
            raise NotResumable(nothing_matched(self.source.words, self.report, self.there))
        self.told = self.report.total
        self.report.unused = [name for name in self.forms if name not in self.taken]
        self.say(self.report.line(self.source.words))
        self.record("initialized", **self.source.origin, **self.report.data())


def initial_of(call: Call, restored: Restored | None) -> Initial | None:
    """The weights that the config of an attempt names; None if it names none.

    restored: the state that is put back over them. Raises NotResumable if they are not there, StoreError if
    that cannot be told; if a state is put back, a line says so.
    """
    of, wanted = call.of, call.of.config["checkpoint"].get("init_from")
    if not wanted:
        return None
    recorded = (of.record.lineage or {}).get("init_from", {})
    try:
        source = open_source(
            of.portal, of.blobs, wanted, home=of.home, recorded=recorded,
            access=lambda: store_access(find_project(of.root)),
        )  # fmt: skip
        rules = of.config["checkpoint"].get("init_map", {})
        return Initial(source, rules, restored is not None, of.report.line, call.log.event)
    except CrownError as error:
        if restored is None:
            raise
        of.report.line(unread(wanted, str(error)))
        return None


def settle_initial(run: Run) -> None:
    """The task has returned: tell what it tracked without a loop. Raises NotResumable as `Initial.settle`."""
    if run._state.initial is not None:
        run._state.initial.settle()


def nothing_matched(source: str, report: Report, there: Mapping[str, str]) -> str:
    """The line for it, with a rule that would help."""
    said = f"checkpoint.init_from={source}: none of its tensors fits what is tracked"
    if report.other:
        name, how = next(iter(report.other.items()))
        return f"{said}: {name} is of another form ({how})"
    here = report.missing or report.shapeless
    if not here:
        return f"{said}: the task tracks no module: run.track(net=…)"
    if not there:
        return f"{said}: it has no tensor of a tracked module"
    if pair := nearest(here, list(there)):
        ours, theirs = pair[0], there[pair[1]]  # a map is of names as they are there
        old, new = suggested(ours, theirs)
        rule = f"checkpoint.init_map='{{{old or '.'}: {new or '.'}}}'"
        return f"{said}: {ours} here, {theirs} there; perhaps {rule}"
    return f"{said}: {few(here)} here, {few(list(there))} there; name them alike by checkpoint.init_map"


def unread(source: str, why: str) -> str:
    """The line of a source that is gone when a run goes on."""
    return (
        f"warning: {why.partition('; bring it back')[0]}; what is tracked is put back from this run's own "
        f"checkpoint, but what the task makes of it before its loop was made with the weights of {source}"
    )


# --- tensors --------------------------------------------------------------------------------------------


def places_of(module: Any) -> dict[str, Any]:
    """A module's own tensors by their names in its state_dict; not what it makes up for that."""
    own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    kept = module.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in kept.items() if id(tensor) in own}


def without_shape(places: Mapping[str, Any], found: Collection[str]) -> set[str]:
    """Those that cannot be filled: without data (meta), or of a part that makes its own at its first batch.

    found: what there is something for; a part takes its shapes from that if it has all of them.
    """
    lazy: dict[str, list[str]] = {}
    for name, tensor in places.items():
        if is_lazy(tensor):
            lazy.setdefault(part_of(name), []).append(name)
    drawn = {part for part, names in lazy.items() if not all(name in found for name in names)}
    return {name for name, tensor in places.items() if tensor.is_meta or part_of(name) in drawn}


def part_of(name: str) -> str:
    """The part of a module that a tensor belongs to."""
    return name.rpartition(".")[0]


def dtype_of(tensor: Any) -> str:
    """Such as `float32`."""
    return str(tensor.dtype).removeprefix("torch.")


def misfit(there: Form, here: Any) -> str:
    """Why a tensor cannot be copied into one; "" if it can."""
    if not is_lazy(here) and there.shape != tuple(here.shape):
        return f"{list(there.shape)} there, {list(here.shape)} here"
    dtype = dtype_of(here)
    return "" if kind(there.dtype) == kind(dtype) else f"{there.dtype} there, {dtype} here"


def kind(dtype: str) -> str:
    """Real, complex, or the very type of whole numbers and others."""
    if "complex" in dtype:
        return "complex"
    return "real" if "float" in dtype else dtype


def put(tensor: Any, place: Any) -> None:
    """Copy a tensor into another one, wherever that is."""
    import torch

    with torch.no_grad():
        if is_lazy(place):
            place.materialize(tensor.shape)
        place.copy_(tensor)
