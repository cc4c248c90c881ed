"""What a task is handed: `run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from crown_exp.errors import TaskError
from crown_exp.runner.boundary import Boundary, Visit
from crown_exp.runner.build import build
from crown_exp.runner.divergence import GRADIENT, LOSS, FiniteWatch
from crown_exp.runner.handle import Config, handle
from crown_exp.runner.intervals import Intervals
from crown_exp.runner.loop import turns
from crown_exp.runner.metrics import loggable
from crown_exp.runner.parts import Parts
from crown_exp.runner.resuming import LoopBefore, Resuming
from crown_exp.runner.run_state import RunState
from crown_exp.runner.source import Source
from crown_exp.runner.state import State
from crown_exp.runner.stopping import StopRequest
from crown_exp.tracking import Loop
from crown_exp.tracking.console import Console
from crown_exp.tracking.run_log import RunLog, to_stderr

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from crown_exp.data import Batches, Stream
    from crown_exp.data.order import OrderKind
    from crown_exp.devices.precision import Precision
    from crown_exp.runner.artifacts import Artifacts
    from crown_exp.runner.initial import Initial
    from crown_exp.runner.keeping import Keeping
    from crown_exp.runner.limits import Limits
    from crown_exp.runner.rehearsal import Rehearsal

T = TypeVar("T")

COMPILE_FROM_TURNS = 1000
"""Compiling takes a minute or so, and saves tens of milliseconds of a turn that is worth it."""


class Run:
    """One run, as its task sees it.

    The loop is the task's; `run.steps` is the seam. All that crown_exp does happens between two turns.

    id, name, seed: as recorded. attempt: this process's number, from 1. folder: the run's folder.
    config: the whole resolved config. resumed: whether state of an earlier attempt was restored.
    """

    def __init__(
        self,
        *,
        id: str,
        name: str,
        config: Mapping[str, Any],
        attempt: int,
        folder: Path,
        precision: Callable[[], Precision],
        log: RunLog,
        console: Console,
        stop: StopRequest,
        artifacts: Artifacts,
        parts: Parts,
        keeping: Keeping,
        limits: Limits,
        fetch: Callable[[str], Path],
        resuming: Resuming | None = None,
        visit: Visit | None = None,
        initial: Initial | None = None,
    ) -> None:
        self.id, self.name, self.config = id, name, config
        self.attempt, self.folder, self.resumed = attempt, folder, resuming is not None
        self.seed: int = config["seed"]
        self._device_config: Mapping[str, Any] = config["device"]
        self._limit: int | None = config["limits"]["steps"]
        self._choose_precision, self._log, self._fetch = precision, log, fetch
        self._console, self._stop, self._artifacts, self._parts = console, stop, artifacts, parts
        self._chosen: Precision | None = None
        self._state = RunState(
            chosen=lambda: self._chosen, choose=lambda: self._precision, initial=initial
        )
        self._built: list[Any] = []
        self._streams = 0
        self._intervals = Intervals()
        self._share: float | None = None
        self._watch = FiniteWatch(self._state.tracked)
        self._keeping = keeping
        self._boundary = Boundary(
            self._state, keeping, stop, limits, self._watch, self._loop_left, self._evaluates, resuming, visit,
            rehearsal_of(self._state.tracked) if config["debug"] else None,
        )  # fmt: skip

    # --- what there is --------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """The device that `build` and `batches` put things on."""
        return self._precision.device

    @property
    def step(self) -> int:
        """The turn in progress, counted from 1 over all loops; after a loop its last one, before any 0."""
        return self._state.loop.step if self._state.loop else 0

    @property
    def done(self) -> int:
        """The turns that are complete, of all loops together."""
        resuming = self._boundary.resuming
        return resuming.step if resuming else self._state.step

    @property
    def _precision(self) -> Precision:
        if self._chosen is None:
            self._chosen = self._choose_precision()
        return self._chosen

    def build(
        self,
        config: Config[T] | Mapping[str, Any],
        *,
        weights: Path | None = None,
        **arguments: Any,
    ) -> T:
        """Build what a group describes; `arguments` are added to those of the config.

        A module is created on the run's device, without a second copy of it anywhere, and computes in the
        run's precision; what it returns is float32. weights: a .safetensors file, or what torch.save wrote
        of a state_dict, to fill it from. Raises TaskError if the group names nothing to build, its target
        does not take the arguments, or the file is another module's.
        """
        group = handle(config, "config")
        if group is None or not group.target:
            name = group.name if group else f"run.build: a {type(config).__name__}"
            raise TaskError(f"{name} names no _target_; choose an option of that group")
        import torch

        from crown_exp.devices.building import build_on

        built = build_on(lambda: build(group.values, **arguments), self.device, weights)
        if isinstance(built, torch.nn.Module):
            compiled = self._precision.choice.compile is True
            built = self._precision.placement.place(built, compile=compiled)
            self._built.append(built)
        return built  # type: ignore[no-any-return]

    def batches(
        self,
        dataset: Any,
        *,
        batch_size: int | None,
        train: bool = True,
        split: str | None = None,
        order: OrderKind | None = None,
        epochs: int | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        workers: int | None = None,
    ) -> Batches | Stream:
        """Batches of a dataset on the run's device, the same on any number of workers.

        dataset: a group of the config (built with `split=` if given), a map-style dataset, or one that can
        only be iterated (docs/data.md), which has an order of its own. batch_size: None if a stream yields
        batches already.
        train: shuffled, whole batches only, over as many epochs as the loop asks for; else in order, once,
        with the last batch as short as it is. order: `shuffled`, `sequential` or a function
        (epoch, samples, seed) → indices. collate: a list of samples → a batch. workers: default
        `device.workers`. Raises TaskError for an empty dataset or one smaller than a batch.
        """
        from crown_exp.data import Batches, Stream, is_stream, mix, move_to

        group = handle(dataset, "dataset")
        name = group.name if group else type(dataset).__name__
        if group:
            dataset = build(group.values, **({} if split is None else {"split": split}))
        elif split is not None:
            raise TaskError(
                "run.batches: split= needs the dataset's group; this one is built already"
            )
        name = name if split is None else f"{name}:{split}"
        self._streams += 1  # two streams of one run share neither order nor noise
        kind = Stream if is_stream(dataset) else Batches
        return kind(
            dataset, batch_size=batch_size, seed=mix(self.seed, self._streams), order=order,
            epochs=epochs, train=train, collate=collate,
            workers=self._device_config["workers"] if workers is None else workers,
            timeout=self._device_config["worker_timeout"],
            pin=self.device.type == "cuda", move=move_to(self.device), name=name,
        )  # fmt: skip

    # --- what must survive ----------------------------------------------------------------------------

    def track(self, **objects: Any) -> None:
        """Name what belongs to the state of the run: saved with it, and put back before the first turn.

        The code before the loop sees it as it was made, in every attempt; modules with the weights that
        `checkpoint.init_from` names. Taken is anything with state_dict and load_state_dict; generators of
        torch, numpy and random; a pathlib.Path, whose file or folder is kept as it is. Raises TaskError for
        anything else and for a name used twice.
        """
        for name, value in objects.items():
            if isinstance(value, Path) and self.folder.is_relative_to(value.absolute()):
                raise TaskError(
                    f"run.track: {name} holds the run's own folder; track a folder beside it"
                )
            self._state.track(name, value)

    def state(self, **values: Any) -> State:
        """Small values that must survive: numbers, strings, lists of them, as attributes."""
        state = State(**values)
        self.track(**{f"state({', '.join(values)})": state})
        return state

    # --- the loop -------------------------------------------------------------------------------------

    def steps(self, source: Any, total: int | None = None, *, name: str = "main") -> Iterator[Any]:
        """The turns of a loop: `for batch in run.steps(batches, 10_000)`.

        source: a count (yields 0, 1, …), batches, or any iterable. total: the most turns there will be;
        without it, batches make one epoch (or the epochs they were given). A second loop of the same task
        needs a name. Raises TaskError if a module made by `build` is not tracked.
        """
        state, resuming = self._state, self._boundary.resuming
        if name in state.loops:
            raise TaskError(
                f"run.steps: a loop named {name!r} ran already; name this one: run.steps(…, name=…)"
            )
        if state.loop and state.loop.in_turn:
            raise TaskError(
                "run.steps within a turn of another; a plain `for` does for inner loops"
            )
        self._refuse_untracked()
        if state.initial is not None:
            state.initial.settle()
        items = Source(source, total, self._limit)
        was = resuming.loop(name, state) if resuming else LoopBefore()
        total = was.done if was.exhausted else items.total
        shown = "" if name == "main" else name
        loop = Loop(shown, total, before=self.step, done=was.done, broken=was.broken)
        if was.over:
            state.begin(name, loop, items)
            return iter(())
        self._compile_for(items.total)
        state.begin(name, loop, items)
        if resuming:
            resuming.place(loop, state)
        self._intervals.forget()
        return turns(loop, items, self._boundary, self._console, self._stop)

    def _compile_for(self, turns: int | None) -> None:
        """With `device.compile=auto`, compile what was built if the loop is long enough to repay it."""
        if not self._built or self._precision.choice.compile != "auto":
            return
        if turns is None or turns >= COMPILE_FROM_TURNS:
            for module in self._built:
                self._precision.placement.place(module, compile=True)
            self._log.event("compiled", modules=len(self._built), turns=turns)
            long = "no end" if turns is None else f"{turns:,} turns"
            to_stderr(f"compiled: this loop has {long}")

    def _loop_left(self) -> None:
        """However it ended: what it logged is written and shown."""
        self._log.drain()
        self._console.end()

    def _settle(self) -> None:
        """Raises Diverged if what was computed is not finite."""
        self._watch.settle(self.step)

    def _evaluates(self) -> bool:
        """Whether `every` will be true in the turn that comes."""
        return self._intervals.will_have(self._state.loop)

    def _refuse_untracked(self) -> None:
        kept = {
            id(module)
            for value in self._state.tracked.values()
            if hasattr(value, "modules")
            for module in value.modules()
        }
        for module in self._built:
            if id(module) not in kept and any(True for _ in module.parameters()):
                kind = type(module).__name__
                raise TaskError(
                    f"{kind} was made by run.build but is not tracked: run.track(net=…) first"
                )

    def every(self, interval: str) -> bool:
        """Whether `500 steps` (or `5 minutes`) have gone by; the same all through a turn.

        Ask at the top of a turn, before it changes anything. Steps are the loop's that are done:
        `500 steps` is true in turns 501, 1001, …. Raises ConfigError for what is no interval.
        """
        return self._intervals.have_gone_by(interval, self._state.loop)

    def split(self, batch: T) -> Iterator[T]:
        """The parts of a batch, `device.accumulate` of them: call `backward` once for each.

        Each part's loss must be a mean over its samples; `backward` weighs it by its share of the batch.
        When memory runs out on a part, the run goes on by itself from its newest save, with smaller ones.
        """
        from crown_exp.data.move import leading, split

        whole = leading(batch)
        try:
            for part in split(batch, self._parts.of(whole)):
                self._share, self._parts.in_turn = leading(part) / whole, self.step
                yield part
                # Not in `finally`, which an error passes before it is told.
                self._parts.in_turn = None
        finally:
            self._share = None

    def autocast(self) -> AbstractContextManager[Any]:
        """The run's precision, for calls other than `module(…)`."""
        return self._precision.autocast()

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss; scaled and weighed as precision and accumulation ask.

        Raises Diverged (exit code 79) if the loss is not finite: on the CPU before any weight changes, on
        a GPU, where reading one waits for the device, within 64 losses. So does `update` for the gradient's
        norm, if it clips, and the end of a loop for tracked weights.
        """
        if self._share is None and self._parts.asked > 1:
            raise TaskError(
                f"device.accumulate={self._parts.asked} needs the loop to go over the parts: "
                "for part in run.split(batch): run.backward(loss(part))"
            )
        if not hasattr(loss, "backward"):
            raise TaskError(f"run.backward: expected a loss, a tensor, got {type(loss).__name__}")
        self._boundary.whole = False  # the turn's work begins
        self._watch.see(self.step, LOSS, loss)
        self._precision.backward(loss if self._share in (None, 1.0) else loss * self._share)

    def update(self, optimizer: torch.optim.Optimizer, clip: float | None = None) -> Tensor | None:
        """Unscale, clip the gradient's norm to `clip`, step, zero. Returns the norm before clipping."""
        self._parts.in_turn, self._watch.updated, self._boundary.whole = None, True, False
        norm = self._precision.update(optimizer, clip)
        if norm is not None and not self._precision.scaler.is_enabled():
            # A scaler skips steps whose gradients are not finite.
            self._watch.see(self.step, GRADIENT, norm)
        return norm

    def log(self, **values: Any) -> None:
        """Record values of this turn: numbers or tensors of one element. Never waits for the device.

        What is logged before the first turn of an attempt that goes on is left out: it was logged before.
        """
        for value in values.values():
            if type(value) is not float:  # else the dict, which nobody else has, is kept as it is
                values = {name: loggable(name, value) for name, value in values.items()}
                break
        if self._stop.code is not None:
            self._stop.obey()
        if self._boundary.resuming is not None:
            return  # the attempt that was first here has logged it
        self._log.put(self.step, values)
        if self._keeping.best and self._keeping.note(values):
            self._boundary.save_held()

    def artifact(self, name: str, value: Any) -> None:
        """Store a file of this turn: `run.artifact("samples.png", images)`; in the run's `files/<step>/`.

        name: may hold folders; a file of the same name and turn is replaced. value: text, bytes, a
        pathlib.Path (copied), a figure (anything with `savefig`), a table (anything with `to_csv`) for .csv,
        .tsv, .jsonl or .parquet, an array or tensor for .npy or, as H×W, H×W×C or C×H×W of bytes or floats in
        0..1, for .png and the like, a dict of arrays for .npz, dicts and lists for .json.
        A tensor on a GPU is waited for. A store that is away costs a line, not the run.
        Raises TaskError for a name or value that is none.
        """
        if self._stop.code is not None:
            self._stop.obey()
        if self._boundary.resuming is None:  # else the attempt that was first here has stored it
            self._artifacts.keep(name, value, self.step)

    def kept(self, name: str) -> Path | None:
        """The newest file that this run stored under a name, in this attempt or an earlier one; None if none.

        What an earlier attempt stored after the state that this one goes on from will be done again, and is
        none. A path on this machine, to be read: a pipeline that goes on skips what it has stored already.
        """
        return self._artifacts.kept(name)

    def fetch(self, source: str) -> Path:
        """Where data is on this machine: what `crown-exp upload` put at a URL, verified; a path as it is."""
        return self._fetch(source)


def rehearsal_of(tracked: Mapping[str, Any]) -> Rehearsal:
    """What tries a save and a resume in a debug run; only that imports it."""
    from crown_exp.runner.rehearsal import Rehearsal

    return Rehearsal(tracked)
