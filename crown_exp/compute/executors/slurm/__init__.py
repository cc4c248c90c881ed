"""Jobs on a Slurm cluster whose machines see this one's files."""

from crown_exp.compute.executors.slurm.executor import SlurmExecutor

__all__ = ["SlurmExecutor"]
