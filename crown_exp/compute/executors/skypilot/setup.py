"""What a new machine of SkyPilot's runs before its first job: a text for bash. Pure."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from crown_exp.compute.base import Target

GRACE_SECONDS = 10
"""Between SIGTERM and SIGKILL."""


def setup(target: Target, prepare: Sequence[str]) -> str | None:
    """The user's commands, then the argv that prepares the machine, in one shell; None without either.

    They are shell lines by their meaning; the first that fails ends the setup. `prepare` gives itself up in
    time, whoever watches; commands of a user are given up here.
    """
    lines = [*target.setup, *([shlex.join(prepare)] if prepare else [])]
    if not lines:
        return None
    text = "\n".join(["set -e", *lines])
    if not target.setup or math.isinf(target.start_deadline):
        return text
    return _bounded(text, math.ceil(target.start_deadline))


def _bounded(text: str, seconds: int) -> str:
    """The text, ended with all that it has started when it takes longer, or when the shell that waits is gone.

    It is run in a fork of the very shell that SkyPilot gave, with its functions and options: another program
    around it (timeout) would begin a new shell. `set -m` makes each of the two forks a process group.
    """
    said = (
        f"compute.setup, with what follows it, took more than compute.start_deadline ({seconds} s)"
    )
    return f"""\
(
set -m
crown_began=$SECONDS
(
set +m
{text}
) < /dev/null &
crown_setup=$!
(
set +m
exec > /dev/null
while kill -0 $$ && [ $((SECONDS - crown_began)) -lt {seconds} ]; do sleep 1; done 2> /dev/null
echo {shlex.quote(f"crown: {said}, and was ended")} >&2
kill -TERM -- -$crown_setup
sleep {GRACE_SECONDS}
kill -KILL -- -$crown_setup
) &
crown_limit=$!
{{ wait $crown_setup; }} 2> /dev/null
crown_code=$?
{{ kill -KILL -- -$crown_limit
if [ $((SECONDS - crown_began)) -ge {seconds} ]; then
kill -KILL -- -$crown_setup
crown_code=1
fi
}} 2> /dev/null
exit $crown_code
)"""
