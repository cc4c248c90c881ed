"""Our Hydra application: what `python -m crown_exp +experiment=x …` is."""

from crown_exp.hydra_app.app import run_app

__all__ = ["run_app"]
