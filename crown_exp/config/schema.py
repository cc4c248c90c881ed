"""Every framework key of the configuration: type, range, unit, default, meaning.

The one place where they are told: composition takes its defaults from here, `check` its types,
`explain` and the documentation their words. Groups with a `_target_` (task, model, dataset, optimizer,
lr_schedule and the user's own) have no schema here: theirs is the signature of what they name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Ge, Gt, Lt


def option(
    default: Any, doc: str, *, unit: str = "", decides: bool = False, planned: bool = False
) -> Any:
    """A field of the schema.

    decides: a value other than the default changes the result, so it is part of a run's signature.
    planned: named so that configs need not change later, but only its default is accepted today.
    """
    metadata = {"doc": doc, "unit": unit, "decides": decides, "planned": planned}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(schema: type) -> Any:
    """A field that is itself a dataclass of fields."""
    return field(default_factory=schema)


@dataclass
class Limits:
    """When a run ends by itself."""

    attempt: str | None = option(
        None,
        "stop and save an attempt after this long (exit code 75: call me again)",
        unit="duration, e.g. 4 hours",
    )
    run: str | None = option(
        None,
        "save and end the run after this long, all attempts together (exit code 77)",
        unit="duration",
    )
    steps: Annotated[int, Gt(0)] | None = option(
        None,
        "end every loop after this many turns, as if the task had asked for no more",
        unit="steps",
        decides=True,
    )


@dataclass
class Budget:
    """Money caps; kept when a run is submitted and while it runs."""

    run_usd: Annotated[float, Gt(0)] | None = option(
        None, "the most one run may cost", unit="US dollars"
    )
    sweep_usd: Annotated[float, Gt(0)] | None = option(
        None, "the most one sweep, or a run without one, may cost", unit="US dollars"
    )
    month_usd: Annotated[float, Gt(0)] | None = option(
        None, "the most all runs of a calendar month may cost", unit="US dollars"
    )
    confirm_above_usd: Annotated[float, Ge(0)] = option(
        10.0, "ask before a launch that is expected to cost more", unit="US dollars"
    )


@dataclass
class Identity:
    """What makes two runs the same."""

    ignore: list[str] = option([], "keys that do not decide the result, e.g. [task.log_every]")
    code: Literal["warn", "refuse"] = option(
        "warn", "what to do when a run is resumed with changed code"
    )


@dataclass
class Sweep:
    """How the runs of one -m command are chosen."""

    name: str | None = option(None, "a name for the sweep; default: what it varies", planned=True)
    search: Literal["grid", "random", "tpe", "asha"] = option(
        "grid", "how trials are chosen", planned=True
    )
    runs: Annotated[int, Gt(0)] | None = option(
        None, "how many trials; null: every point of the grid", planned=True
    )
    workers: Annotated[int, Gt(0)] = option(1, "how many runs at once", planned=True)


@dataclass
class Device:
    """The torch device of a run and the numbers it computes in."""

    kind: Literal["auto", "cuda", "mps", "cpu"] = option(
        "auto", "auto takes cuda, else mps, else cpu; a device that is not there is an error"
    )
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = option(
        "auto",
        "auto: bf16 on cuda since Ampere, fp16 on older cuda, fp32 elsewhere",
        decides=True,
    )
    deterministic: bool = option(
        False, "only deterministic kernels; slower, the same bits every time", decides=True
    )
    accumulate: Annotated[int, Ge(1)] = option(
        1, "parts that run.split cuts each batch into (gradient accumulation)", unit="parts"
    )
    threads: Annotated[int, Gt(0)] | None = option(
        None, "threads of one CPU operation; null leaves it to torch", unit="threads"
    )
    workers: Annotated[int, Ge(0)] = option(
        0, "processes that load batches; cannot change the result", unit="processes"
    )
    worker_timeout: Annotated[float, Gt(0)] | None = option(
        600.0, "how long a batch from workers is waited for; null: for ever", unit="seconds"
    )
    compile: bool | Literal["auto"] = option(
        False, "torch.compile what run.build makes; auto: on cuda, in loops that repay it"
    )


@dataclass
class Compute:
    """Where a run happens: a compute target. Plain data, one yaml each, ordinary sweepable keys."""

    name: str = option("local", "the target's name, shown in tables")
    executor: Literal["local", "skypilot", "slurm"] = option(
        "local", "who starts the run: this machine, SkyPilot or Slurm"
    )
    accelerators: list[str] = option(
        [],
        "GPUs of one machine, the first that is to be had; [] for none",
        unit="name:count, e.g. A100:1",
    )
    spot: bool = option(
        False, "take machines that the cloud may take back, for a third of the price"
    )
    infra: list[str] = option(
        [],
        "where it may run, in SkyPilot's words; [] for every cloud that is enabled",
        unit="cloud, cloud/region or slurm/cluster/partition",
    )
    avoid: list[str] = option([], "where it may not run", unit="cloud or cloud/region")
    cpus: Annotated[int, Gt(0)] | None = option(None, "at least so many", unit="virtual CPUs")
    memory_gb: Annotated[int, Gt(0)] | None = option(None, "at least so much", unit="GB")
    disk_gb: Annotated[int, Gt(0)] | None = option(None, "size of the machine's disk", unit="GB")
    image: str | None = option(
        None, "the machine's image", unit="docker:<image>, or an image of the cloud"
    )
    nodes: Annotated[int, Ge(1)] = option(1, "machines of one run", unit="machines", planned=True)
    partition: str | None = option(None, "Slurm's partition; null: the cluster's default")
    time: str | None = option(
        None, "how long Slurm lets a job run at a stretch; null: the partition's", unit="duration"
    )
    setup: list[str] = option([], "shell commands on every new machine, before the first run")
    env: dict[str, str] = option({}, "environment variables of the run; no secrets")
    secrets: list[str] = option(
        [], "names of environment variables that travel as secrets, e.g. [HF_TOKEN]"
    )
    environment: Literal["lock", "image"] = option(
        "lock",
        "lock: the packages that are installed here, in their versions; image: those of the image",
    )
    shared: bool = option(
        False,
        "its machines see this machine's files and addresses (a cluster with a shared file system)",
    )
    managed: bool = option(
        True,
        "as SkyPilot's managed job, which goes on after a preemption; false: on a plain cluster",
    )
    recovery: Literal["anywhere", "same"] = option(
        "anywhere", "where to look first after a preemption: another region, or the same one"
    )
    start_deadline: str | None = option(
        "45 minutes",
        "a job that has not begun by then is cancelled; null: it waits, as in a cluster's queue",
        unit="duration",
    )
    autostop_minutes: Annotated[int, Gt(0)] = option(
        10,
        "a machine that does nothing for so long is ended; cannot be switched off",
        unit="minutes",
    )
    max_usd_per_hour: Annotated[float, Gt(0)] | None = option(
        None,
        "machines that cost more are not taken",
        unit="US dollars per hour, all nodes together",
    )
    usd_per_hour: Annotated[float, Gt(0)] | None = option(
        None,
        "what a machine costs where no catalogue says, as on a cluster of one's own; null: nothing",
        unit="US dollars per hour, all nodes together",
    )


@dataclass
class Tracker:
    """Where metrics are shown beside the run's own log."""

    progress: Literal["auto", "bar", "lines", "none"] = option(
        "auto", "auto: a bar on a terminal, plain lines elsewhere"
    )


@dataclass
class Checkpoint:
    """When the state of a run is saved, and what a new run begins with."""

    every: str = option(
        "auto",
        "how often; auto weighs the time of a save against the work it protects",
        unit="'10 steps', '5 minutes' or auto",
    )
    keep_last: Annotated[int, Ge(1)] = option(
        2, "how many of the newest checkpoints are kept", unit="checkpoints"
    )
    keep_every: str | None = option(
        None, "keep those at these steps for good", unit="e.g. '1000 steps'"
    )
    keep_best: str | None = option(
        None, "keep the best by a metric that is logged", unit="e.g. 'max accuracy', 'min loss'"
    )
    deadline: str = option(
        "1 hour",
        "end (exit code 80: call me again) when nothing could be saved for this long",
        unit="duration",
    )
    mtbf: str = option(
        "2 hours", "the mean time between two deaths of a process, for every=auto", unit="duration"
    )
    mirror: bool = option(
        True, "keep the newest checkpoint of a remote store on this machine's disk too"
    )
    init_from: str | None = option(
        None,
        "weights that a new run begins with: a run, run@step, run@best, the URL of a run's folder or of a file",
        decides=True,
    )
    init_map: dict[str, str | None] = option(
        {},
        "names there to names here, by their beginning; null: not taken",
        unit="e.g. {encoder: backbone, head: null}",
        decides=True,
    )


@dataclass
class Schema:
    """The top of the tree."""

    name: str | None = option(
        None, "what people call the run; default: experiment and swept values"
    )
    tags: list[str] = option([], "words to find the run by")
    seed: Annotated[int, Ge(0), Lt(2**32)] | None = option(
        0,
        "seeds python, numpy, torch and the order of samples; null draws one and records it",
        decides=True,
    )
    debug: bool = option(
        False,
        "a few turns in a throw-away store, without workers, compiling or tracker; post-mortem on error",
    )
    reuse: Literal["code", "signature", "never"] = option(
        "code",
        "when a run sent elsewhere is not made again: an equal one of this code, any equal one, never",
    )
    resume: str | None = option(
        None, "the id of a run to continue, or latest: the newest with this signature"
    )
    limits: Limits = section(Limits)
    budget: Budget = section(Budget)
    identity: Identity = section(Identity)
    sweep: Sweep = section(Sweep)
    device: Device = section(Device)
    compute: Compute = section(Compute)
    tracker: Tracker = section(Tracker)
    checkpoint: Checkpoint = section(Checkpoint)


TARGET_GROUPS = ("task", "model", "dataset", "optimizer", "lr_schedule")
"""The groups whose schema is the signature of their `_target_`."""

FRAMEWORK_GROUPS = ("device", "compute", "tracker", "checkpoint")
"""The groups whose schema is a dataclass above."""

OPEN_GROUPS = ("tracker",)
"""Those of them that may name a `_target_` too, and hold its arguments beside their own keys."""


TRACKER_KEYS = tuple(item.name for item in fields(Tracker))
"""What the group `tracker` says to us; its other keys are its `_target_` and the arguments of that."""


def own_tracker(tracker: Mapping[str, Any]) -> dict[str, Any]:
    """The group without its `_target_`: the terminal alone."""
    return {name: tracker[name] for name in TRACKER_KEYS if name in tracker}


SECTIONS = tuple(item.name for item in fields(Schema) if is_dataclass(item.default_factory))
"""The keys of the top that have keys below them."""

PLAIN_KEYS = tuple(item.name for item in fields(Schema) if item.name not in SECTIONS)
"""The keys of the top that are values."""


@dataclass(frozen=True)
class Key:
    """One framework key: `limits.steps`, its type, default and words."""

    path: str
    type: Any
    default: Any
    doc: str
    unit: str
    decides: bool
    planned: bool


def leaves(schema: type = Schema, prefix: str = "") -> Iterator[Key]:
    """Every leaf of the schema, in the order it is written."""
    types = get_type_hints(schema, include_extras=True)
    for item in fields(schema):
        path = f"{prefix}{item.name}"
        if is_dataclass(types[item.name]):
            yield from leaves(types[item.name], f"{path}.")
        else:
            yield Key(path, types[item.name], default_of(item), **item.metadata)


def default_of(item: Field[Any]) -> Any:
    """The default of a dataclass field."""
    return item.default if item.default_factory is MISSING else item.default_factory()


def defaults(schema: type = Schema) -> dict[str, Any]:
    """The schema as a plain tree of its defaults."""
    types = get_type_hints(schema, include_extras=True)
    return {
        item.name: defaults(types[item.name])
        if is_dataclass(types[item.name])
        else default_of(item)
        for item in fields(schema)
    }
