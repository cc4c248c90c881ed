"""A stock Hydra application on our config tree: what `python -m crown_exp` is held against."""

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from crown_exp.config.project import builtin_conf
from crown_exp.config.schema import defaults

ConfigStore.instance().store(name="schema", node=defaults(), provider="crown_exp")


@hydra.main(version_base="1.3", config_path=str(builtin_conf()), config_name="config")
def main(config: DictConfig) -> None:
    """Never reached: it is only asked for --help, for --cfg and with a typo."""


if __name__ == "__main__":
    main()
