"""A command line that is no word: runs, sweeps, and what Hydra can tell without running anything.

A single run is composed once, as a job, and handed to the launcher; -m goes through Hydra's own multirun.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import env_override
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from crown_exp.config.compose import COMPOSING, CONFIG_NAME, new_loader, relax, texts
from crown_exp.config.layers import conf_layers, layered, make_importable
from crown_exp.config.overrides import quoted_run, resumed_alone
from crown_exp.config.project import find_project
from crown_exp.config.settings import home_of
from crown_exp.errors import ConfigError
from crown_exp.hydra_app.completion import complete
from crown_exp.hydra_app.flags import config_dir, parse, retyped
from crown_exp.launch.invocation import Ended, Invocation, current, invoked


def run_app(arguments: Sequence[str], *, planning: bool = False) -> int:
    """Run, sweep, or answer --cfg, --help, --info and the shell's completion. Returns the exit code.

    planning: tell what would be run and what that costs, and run nothing.
    """
    parser = get_args_parser()
    parsed = parse(parser, arguments)
    if parsed.json and not planning:
        raise ConfigError.of(
            "--json", "goes with crown-exp plan, which tells what a command would do"
        )
    parsed.overrides = list(map(quoted_run, parsed.overrides))
    project = find_project(Path.cwd())
    root = project.root if project else Path.cwd()
    make_importable(root)
    # hydra.sweep.dir lies in it, for the workers of stock launchers as well
    asked = Invocation(
        multirun=parsed.multirun,
        project=project,
        yes=parsed.yes,
        planning=planning,
        as_json=parsed.json,
    )
    with (
        env_override({"CROWN_HOME": str(home_of(project))}),
        layered([*config_dir(parsed), *conf_layers(project)]),
        invoked(asked) as invocation,
        application() as hydra,
    ):
        command = Command(hydra, parser, parsed, invocation)
        try:
            command.carry_out()
        except (HydraException, OmegaConfBaseException) as error:
            raise hydra.diagnosed(parsed.overrides, parsed.config_name, error) from error
    return invocation.exit_code()


class Application(Hydra):
    """Hydra, with all that is wrong with a command told where Hydra would tell the first."""

    config_loader: ConfigLoaderImpl

    def compose_config(
        self, config_name: str | None, overrides: list[str], *args: Any, **options: Any
    ) -> DictConfig:
        """What Hydra composes. Raises ConfigError."""
        try:
            cfg = super().compose_config(config_name, overrides, *args, **options)
        except COMPOSING as error:
            raise self.diagnosed(overrides, config_name or CONFIG_NAME, error) from error
        if (invocation := current()) and invocation.planning:
            prepare_plan(cfg)
        return cfg

    def diagnosed(
        self, overrides: Sequence[str], config_name: str, error: BaseException | None = None
    ) -> ConfigError:
        """Everything that is wrong with a command."""
        from crown_exp.config.diagnose import diagnose

        return diagnose(self.config_loader, overrides, config_name, error)


def prepare_plan(cfg: DictConfig) -> None:
    """Leave a command's callbacks out: nothing happens that they could be told of.

    Raises ConfigError for a launcher or sweeper that cannot but run its jobs.
    """
    for group in ("hydra/launcher", "hydra/sweeper"):
        if cfg.hydra.runtime.choices.get(group) != "crown":
            raise ConfigError.of("plan", f"needs {group}=crown, the default")
    with open_dict(cfg.hydra):
        cfg.hydra.callbacks = {}


@contextmanager
def application() -> Iterator[Application]:
    """Hydra over the layers of conf/, with our schema."""
    hydra = Application("crown_exp", new_loader())
    GlobalHydra.instance().initialize(hydra)
    try:
        yield hydra
    finally:
        GlobalHydra.instance().clear()


@dataclass
class Command:
    """A command line, and what it becomes."""

    hydra: Application
    parser: ArgumentParser
    parsed: Namespace
    invocation: Invocation

    def carry_out(self) -> None:
        """Do what the flags ask for."""
        parsed = self.parsed
        if parsed.help:
            self.hydra.app_help(self.config_name, self.parser, parsed)
        elif parsed.hydra_help:
            self.hydra.hydra_help(self.config_name, self.parser, parsed)
        elif parsed.shell_completion:
            complete(self.hydra, self.config_name, self.typed)
        elif parsed.cfg or parsed.info:
            self.show()
        elif parsed.multirun:
            self.sweep()
        else:
            self.single()

    @property
    def typed(self) -> list[str]:
        """The overrides."""
        return list(self.parsed.overrides)

    @property
    def config_name(self) -> str:
        """The primary config."""
        return str(self.parsed.config_name)

    def show(self) -> None:
        """--cfg and --info tell what would run: mistakes are refused; that nothing would is none yet."""
        from crown_exp.config.diagnose import sound

        try:
            sound(self.hydra.config_loader, self.typed, self.config_name)
        except ConfigError as wrong:
            if kept := [problem for problem in wrong.problems if problem.where != "task"]:
                raise ConfigError(kept) from None
        name, relaxed, parsed = self.config_name, relax(self.one_job()), self.parsed
        if parsed.info:
            # through logging, whose handlers do not let a closed pipe be told from a broken one
            with redirect_stdout(StringIO()) as said:
                self.hydra.show_info(parsed.info, name, relaxed)
            sys.stdout.write(said.getvalue())
            return
        if parsed.package not in (None, "_global_"):
            cfg = self.hydra.compose_config(name, relaxed, RunMode.RUN)
            if OmegaConf.select(cfg, parsed.package) is None:
                raise ConfigError.of("--package", f"no {parsed.package} in this config")
        self.hydra.show_cfg(name, relaxed, parsed.cfg, parsed.package, parsed.resolve)

    def single(self) -> None:
        """One run. The launcher is told that there is one job, and has its config already."""
        from crown_exp.launch.collect import launched

        if alone := self.resumed_alone():
            ended = resume(self.invocation, self.hydra.config_loader, *alone)
            self.invocation.ended += [ended] if ended else []
            return
        cfg = self.hydra.compose_config(
            self.config_name, relax(self.one_job()), RunMode.RUN, with_log_configuration=True
        )
        if cfg.hydra.runtime.choices.get("hydra/launcher") != "crown":
            from crown_exp.hydra_app.stock import refuse_alone

            refuse_alone(cfg)
        callbacks = Callbacks(cfg)
        callbacks.on_run_start(config=cfg, config_name=self.config_name)
        context = HydraContext(config_loader=self.hydra.config_loader, callbacks=callbacks)
        launcher = Plugins.instance().instantiate_launcher(context, task, cfg)
        job = texts(cfg.hydra.overrides.task)
        for returned in launched(self.invocation, launcher, [job], 0):
            callbacks.on_run_end(config=cfg, config_name=self.config_name, job_return=returned)
        if any(not run.run for run in self.invocation.ended):  # it was not seen here
            self.summarize()

    def resumed_alone(self) -> tuple[str, list[str]] | None:
        """A run to go on with, whose recorded config is the base, and the overrides of that."""
        if self.config_name != CONFIG_NAME:
            return None
        return resumed_alone(self.hydra.config_loader, self.typed)

    def sweep(self) -> None:
        """The runs of -m, and at their end a table of them."""
        if self.resumed_alone():
            raise ConfigError.of("resume", "goes on with one run; leave out -m")
        from crown_exp.config.overrides import read
        from crown_exp.launch.collect import RunFailed, ended_elsewhere

        if read(self.hydra.config_loader, self.typed)[1]:
            raise self.hydra.diagnosed(self.typed, self.config_name)
        try:
            # we do not ask for hydra.mode; the workers of stock launchers read it
            overrides = [*relax(self.typed), "hydra.mode=MULTIRUN"]
            batches = self.hydra.multirun(self.config_name, task, overrides)
            if not self.invocation.ended:  # neither the sweeper nor the launcher is ours
                self.invocation.ended = [
                    ended_elsewhere(job) for batch in batches or () for job in batch
                ]
        except RunFailed:  # a stock sweeper raises what the first failed run has said already
            if not self.invocation.ended:
                raise
        finally:
            if self.invocation.planned != 1:
                self.summarize()

    def summarize(self) -> None:
        """A table of the runs there were."""
        from crown_exp.launch.summary import show_summary

        if self.invocation.ended:
            show_summary(self.invocation, [*retyped(self.parsed), *self.typed])

    def one_job(self) -> list[str]:
        """The overrides of a command that makes one job. Raises ConfigError for more."""
        from crown_exp.config.diagnose import one_job

        return one_job(self.hydra.config_loader, self.typed, self.config_name)


def resume(
    invocation: Invocation, loader: ConfigLoaderImpl, run: str, typed: Sequence[str]
) -> Ended | None:
    """`resume=<run> key=value…` alone, as the word `resume` does it; None if only a plan was asked for."""
    from crown_exp.launch.resuming import resumed
    from crown_exp.launch.session import open_session
    from crown_exp.runner import run_attempt

    with open_session(invocation.project, run=run) as session:
        found = resumed(session, loader, run, typed)
        if found.is_elsewhere or invocation.planning:
            from crown_exp.launch.remote.dispatch import gone_on

            return gone_on(session, invocation, found)
        ending = run_attempt(
            session.portal, session.blobs, found.record.id,
            home=session.home, root=session.root, database=session.database, changes=found.changes,
        )  # fmt: skip
    record, overrides = found.record, (f"resume={found.record.id}", *typed)
    return Ended(record.id, record.name, ending.exit_code, ending.result, ending.error, overrides)


def task(config: DictConfig) -> Any:
    """What a stock launcher calls; ours does not."""
    from crown_exp.hydra_app.stock import carry_out

    return carry_out(config)
