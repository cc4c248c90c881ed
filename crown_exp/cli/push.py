"""`crown-exp push --wandb RUN…`: runs out of their folders to a service that shows them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crown_exp.errors import ConfigError, CrownError, SettingsError

if TYPE_CHECKING:
    from crown_exp.launch.index import Index
    from crown_exp.registry.base import Details, FileInfo
    from crown_exp.tracking import Point
    from crown_exp.tracking.wandb import WandB

HOW = "crown-exp push --wandb RUN..."
START_SECONDS, FINISH_SECONDS = 30.0, 600.0
"""How long W&B may take to answer, and to take what waits at the end of a run."""
TOGETHER = 2_000
TARGET = "crown_exp.tracking.wandb.WandB"


class Unsent(CrownError):
    """The service cannot be reached, or refuses."""

    exit_code = 80


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a run. points, files: all that count; sent, files_sent: those that were not there.

    url, folder: where it is.
    """

    id: str
    mode: str
    url: str
    folder: str
    points: int
    sent: int
    files: int
    files_sent: int


@click.command(name="push")
@click.argument("runs", nargs=-1, metavar="RUN...")
@click.option("--wandb", "to_wandb", is_flag=True, help="to W&B (https://wandb.ai)")
@click.option("--project", help="W&B's project, if the run's config names none")
@click.option("--entity", help="a user or team of W&B, if the run's config names none")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(
    runs: tuple[str, ...], to_wandb: bool, project: str | None, entity: str | None, as_json: bool
) -> None:
    """Send runs to W&B: the points, files and result that their folders hold.

    A run that was tracked offline or not at all, or of which W&B did not get everything: only what is not
    there is sent. RUN is an id or its beginning. With WANDB_MODE=offline it is written for `wandb sync`.
    What was pushed is said also if a later run fails.
    """
    if not to_wandb:
        raise ConfigError.of("push", f"to where? Expected {HOW}")
    if not runs:
        raise ConfigError.of("push", f"which runs? Expected {HOW}")
    from crown_exp.cli.refreshed import refreshed_index

    with refreshed_index() as index:
        mode = reachable_mode()
        found = dict.fromkeys(map(index.find, runs))
        chosen = [ended(index.get(run)) for run in found]
        pushed: list[Pushed] = []
        try:
            for details in chosen:
                pushed.append(push(index, details, mode, project, entity))
                if not as_json:
                    click.echo(line_of(pushed[-1]))
        finally:
            conclude(pushed, as_json)


def reachable_mode() -> str:
    """online or offline. Raises SettingsError if W&B would not even be asked."""
    from crown_exp.config.project import find_project
    from crown_exp.config.settings import variables
    from crown_exp.tracking.wandb_mode import chosen_mode, has_key

    known = variables(find_project(Path.cwd()))
    mode = chosen_mode("auto", known)
    if mode == "disabled":
        raise SettingsError("WANDB_MODE: W&B is disabled; nothing was sent")
    if not known.get("WANDB_MODE") and not has_key(known):
        what = "W&B has no key; nothing was sent. Type: wandb login, or set WANDB_API_KEY"
        raise SettingsError(what)
    return mode


def ended(details: Details) -> Details:
    """A run that nobody writes to. Raises ConfigError if it goes on."""
    from crown_exp.outcome import State

    if details.run.state is State.RUNNING:
        what = "is running; its tracker sends it. Push it when it has ended"
        raise ConfigError.of(details.run.id, what)
    return details


def push(
    index: Index, details: Details, mode: str, project: str | None, entity: str | None
) -> Pushed:
    """Send a run. Raises Unsent."""
    from crown_exp.cli.screen import complain
    from crown_exp.tracking.apart import Failed
    from crown_exp.tracking.replay import read_points

    run_id = details.run.id
    points, problems = index.call(read_points, index.blobs, run_id)
    for problem in problems:
        complain(problem)
    tracker = opened(details, mode, project, entity)
    try:
        tracker.start(tracked(index, details))
        send(tracker, run_id, points)
        listed = tracker.files() if tracker.resumed and details.files else {}
        files = sum(send_file(tracker, index, run_id, file, listed) for file in details.files)
        tracker.finish(details.run.exit_code or 0, details.run.result)
    except Failed as error:
        what = f"{run_id}: W&B does not take it: {error}"
        raise Unsent(f"{what}. Nothing is lost; type the same again later") from None
    except OSError as error:
        raise Unsent(f"{run_id}: {error.filename}: {error.strerror}; nothing was sent") from None
    return Pushed(
        run_id, mode, tracker.url, tracker.folder,
        points=len(points), sent=tracker.sent, files=len(details.files), files_sent=files,
    )  # fmt: skip


def opened(details: Details, mode: Any, project: str | None, entity: str | None) -> WandB:
    """W&B as the run's config has it, or as it is asked for."""
    from crown_exp.tracking.wandb import WandB

    config: Mapping[str, Any] = details.config or {}
    group = config.get("tracker") or {}
    its = group if group.get("_target_") == TARGET else {}
    tracker = WandB(its.get("project") or project, its.get("entity") or entity, mode)
    tracker.start_seconds, tracker.finish_seconds = START_SECONDS, FINISH_SECONDS
    return tracker


def tracked(index: Index, details: Details) -> Any:
    """A run as trackers are told of it, with the tags that it has now."""
    from crown_exp.tracking import TrackedRun

    run = details.run
    return TrackedRun(
        id=run.id, name=run.name, experiment=run.experiment,
        sweep=run.sweep["id"] if run.sweep else None, tags=run.tags, user=run.user,
        config=details.config or {}, attempt=run.attempt, home=index.settings.home,
    )  # fmt: skip


def send(tracker: WandB, run_id: str, points: Sequence[Point]) -> None:
    """What is not there of points, in pieces, with a bar for who watches."""
    take: Callable[[Sequence[Point]], object] = tracker.log
    if tracker.resumed:
        tracker.hold(max((point.step for point in points), default=0))
        take = tracker.catch_up
    pieces = [points[at : at + TOGETHER] for at in range(0, len(points), TOGETHER)]
    screen = sys.stderr if sys.stderr.isatty() else StringIO()  # click before 8.2 cannot hide it
    with click.progressbar(pieces, label=run_id, file=screen) as bar:
        for piece in bar:
            take(piece)


def send_file(
    tracker: WandB, index: Index, run_id: str, file: FileInfo, listed: dict[str, str]
) -> bool:
    """Send a stored file, unless it is listed; whether it was sent.

    A picture joins the history only of a run that is new there: else its row would come after all others.
    """
    from crown_exp.tracking import Artifact
    from crown_exp.tracking.wandb import take_listed

    name = file.path.partition("/")[2] or file.path
    with on_this_machine(index, f"runs/{run_id}/files/{file.path}") as path:
        artifact = Artifact(name, file.step or 0, path, file.kind)
        if take_listed(listed, artifact):
            return False
        tracker.artifact(artifact._replace(kind="file") if tracker.resumed else artifact)
    return True


@contextmanager
def on_this_machine(index: Index, path: str) -> Iterator[Path]:
    """A blob as a file: the store's own, or a copy for as long as it is needed."""
    local = index.blobs.local_path(path)
    if local is not None:
        yield local
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(path).name
        copy.write_bytes(index.call(index.blobs.get, path))
        yield copy


def line_of(one: Pushed) -> str:
    """What was sent of a run, and where it is."""
    points = counted(one.sent, one.points, "point")
    files = counted(one.files_sent, one.files, "file")
    return f"{one.id}  {points}, {files}  {one.url or 'written, not sent'}"


def counted(sent: int, total: int, what: str) -> str:
    """How many were sent, and of how many that was not necessary."""
    from crown_exp.cli.ages import plural

    there = total - sent
    were = "was" if there == 1 else "were"
    return plural(sent, what) + (f" ({there:,} {were} there)" if there else "")


def conclude(pushed: Sequence[Pushed], as_json: bool) -> None:
    """All that was pushed, for machines; for others, what to type next."""
    from crown_exp.cli.screen import write_json

    if as_json:
        write_json(pushed)
    elif offline := [one.folder for one in pushed if not one.url]:
        click.echo(f"next: wandb sync {' '.join(offline)}")
    elif pushed:
        click.echo(f"next: open {pushed[0].url}")
