"""Our Hydra application: what `python -m crown_exp +experiment=x …` is."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from crown_exp.config.compose import CONFIG_NAME, new_loader, register_schema, relax
from crown_exp.config.layers import conf_layers, layered, layers, make_importable
from crown_exp.config.project import builtin_conf, find_project
from crown_exp.errors import ConfigError, CrownError
from crown_exp.launch.invocation import Invocation, invoked


def run_app(arguments: Sequence[str]) -> int:
    """Run, sweep, or answer --cfg, --help, --info and the shell's completion. Returns the exit code."""
    parser = get_args_parser()
    parsed = parser.parse_args(arguments)
    typed = list(parsed.overrides)
    project = find_project(Path.cwd())
    make_importable(project.root if project else Path.cwd())
    with (
        layered(conf_layers(project)),
        invoked(Invocation(multirun=parsed.multirun, project=project)) as invocation,
    ):
        try:
            answer(parsed)
        except CrownError:
            raise
        except Exception as error:
            if invocation.ended:  # a stock sweeper raises what its first failed run said already
                return invocation.exit_code()
            if invocation.composed:
                raise
            raise explained(parsed, typed, error) from error
        return invocation.exit_code()


def answer(parsed: Namespace) -> None:
    """Let Hydra do what was asked."""
    if parsed.cfg or parsed.info:
        refuse_mistakes(parsed)
    if not (parsed.shell_completion or parsed.info):
        parsed.overrides = relax(parsed.overrides)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints by itself and turns every exit into 1
    version.setbase("1.3")
    register_schema()
    try:
        _run_hydra(
            args=parsed,
            args_parser=get_args_parser(),
            task_function=task,
            config_path=str(builtin_conf()),
            config_name=CONFIG_NAME,
        )
    except SystemExit as end:  # --help and its like end so
        if end.code:
            raise


def task(config: DictConfig) -> None:
    """What stock launchers would call: our runs never come here."""
    raise ConfigError.of("hydra/launcher", "crown_exp runs need hydra/launcher=crown for now")


def refuse_mistakes(parsed: Namespace) -> None:
    """--cfg and --info show what would run: hold it against the schema first."""
    from crown_exp.config.check import check
    from crown_exp.config.compose import compose
    from crown_exp.config.diagnose import groups_of, place_of

    loader, name = loader_of(parsed)
    try:
        config = compose(loader, parsed.overrides, name).config
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise explained(parsed, parsed.overrides, error) from error
    try:
        check(config, groups_of(loader), lambda key: place_of(loader, name, parsed.overrides, key))
    except ConfigError as wrong:
        kept = [problem for problem in wrong.problems if problem.where != "task"]
        if kept:
            raise ConfigError(kept) from None


def loader_of(parsed: Namespace) -> tuple[ConfigLoaderImpl, str]:
    """The loader and primary config that Hydra's own flags ask for."""
    extra = [Path(parsed.config_dir).resolve()] if parsed.config_dir else []
    with layered([*extra, *layers()]):
        return new_loader(), parsed.config_name or CONFIG_NAME


def explained(parsed: Namespace, typed: Sequence[str], error: Exception) -> ConfigError:
    """What to mend, from what Hydra refused."""
    from crown_exp.config.diagnose import diagnose

    loader, name = loader_of(parsed)
    return diagnose(loader, name, typed, error)
