"""How a job is handed to Slurm: by submitit, in an environment without anything that may be secret."""

from __future__ import annotations

import contextlib
import io
import math
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crown_exp.compute.base import ExecutorError, Job, NotSubmitted, Target
from crown_exp.compute.executors.slurm.limits import ANY_GPU, gpus_of
from crown_exp.config.settings import whole_environment

NOTICE = 120.0
"""Seconds before the time limit at which Slurm says so."""

TRAVELS = re.compile(
    "PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_[A-Z]+|TZ|PYTHONPATH|LD_LIBRARY_PATH|VIRTUAL_ENV"
    "|CONDA_PREFIX|CUDA_HOME|SLURM_CONF|SBATCH_(?!EXPORT|GET_USER_ENV)[A-Z_]+"
)
"""Variables of who submits that jobs begin with: what finds programs and packages, the language, and where
Slurm is. Slurm would keep a copy of all others, and hand them to every process of the job."""

_PREFIX = re.compile(r"^(sbatch|allocation failure): (error: )?")


def travelling(environment: Mapping[str, str]) -> dict[str, str]:
    """What sbatch, and so each job, sees of the environment of who submits."""
    return {name: value for name, value in environment.items() if TRAVELS.fullmatch(name)}


def parameters(target: Target) -> dict[str, Any]:
    """What submitit is told of a target."""
    minutes = None if target.time is None else max(1, math.ceil(target.time / 60))
    notice = NOTICE if minutes is None else min(NOTICE, minutes * 60 / 5)
    return {
        "partition": target.partition,
        "time": minutes,
        "cpus_per_task": target.cpus,
        "mem": None if target.memory_gb is None else f"{target.memory_gb}GB",
        "gres": gres(target),
        "wckey": None,
        "use_srun": False,
        "stderr_to_stdout": True,
        # B: to the batch step alone, which submitit leaves out. requeue: the same job may be run again
        "additional_parameters": {"signal": f"B:USR2@{notice:.0f}", "requeue": True},
    }


def gres(target: Target) -> str | None:
    """The GPUs that are asked for, as Slurm names them; None without any."""
    if not target.accelerators:
        return None
    kind, count = gpus_of(target)
    return f"gpu:{count}" if kind == ANY_GPU else f"gpu:{kind}:{count}"


def sbatch(job: Job, folder: Path) -> str:
    """Have submitit write and submit a batch script; Slurm's id. No value of a user's is in the script.

    Raises NotSubmitted for what sbatch refuses, ExecutorError if there is none.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    class Bare(submitit.SlurmExecutor):
        """Calls sbatch in an environment of its own."""

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            own = [f"{name}={value}" for name, value in travelling(whole_environment()).items()]
            return ["env", "-i", *own, *super()._make_submission_command(submission_file_path)]

    try:
        executor = Bare(folder=folder)
        executor.update_parameters(job_name=job.name, **parameters(job.target))
        argv = [sys.executable, str(folder / "start.py"), str(folder)]
        with contextlib.redirect_stderr(io.StringIO()):  # it prints what it raises
            submitted = executor._submit_command(f"exec {shlex.join(argv)}")
    except FailedJobError as error:
        raise NotSubmitted(f"{job.name}: sbatch: {complaint(str(error))}") from error
    except RuntimeError as error:
        raise ExecutorError(f"submitit: {error}") from error
    return str(submitted.job_id)


def complaint(text: str) -> str:
    """The last of what sbatch has to say, in one line."""
    lines = [line for line in text.splitlines() if line.strip()]
    return _PREFIX.sub("", lines[-1].strip()) if lines else "it failed and did not say why"
