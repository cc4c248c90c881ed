"""The entrance. A bare word goes to `crown_exp.cli`, anything else is a run and goes to Hydra.

Every end of the process passes through `main`: one line for what a user can mend, the code of the contract.
Nothing is imported up here that Ctrl-C could interrupt before anyone is there to catch it.
"""

from __future__ import annotations

import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    code = guarded(sys.argv[1:])
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left that an interrupt could spoil
    sys.exit(code)


def guarded(arguments: Sequence[str]) -> int:
    """The exit code of a command; what a user can mend is said in one line, without a traceback."""
    try:
        return answered(arguments)
    except KeyboardInterrupt:
        pass
    except Exception as error:
        if not interrupted(error):
            raise
    sys.stderr.write("interrupted\n")
    return 130


def answered(arguments: Sequence[str]) -> int:
    """The same, without Ctrl-C."""
    from crown_exp.config.settings import wants_tracebacks
    from crown_exp.errors import CrownError, Stopped

    debugging = wants_tracebacks()
    try:
        return run(arguments)
    except CrownError as error:
        if debugging:
            raise
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Stopped as stopped:
        sys.stderr.write(f"{stopped}\n")
        return int(stopped.exit_code)


def interrupted(error: BaseException | None) -> bool:
    """Whether an error came of cleaning up after Ctrl-C (OmegaConf's context managers raise such)."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def run(arguments: Sequence[str]) -> int:
    """Hand the command line to whom it speaks to."""
    if is_word(arguments):
        from crown_exp.cli import run_word

        return run_word(arguments)
    from crown_exp.hydra_app import run_app

    return run_app(arguments)


def is_word(arguments: Sequence[str]) -> bool:
    """Whether the first argument is one of our words (`explain`, `init`, …) rather than an override."""
    if not arguments or arguments[0] == "--version":
        return True
    first = arguments[0]
    return "=" not in first and first[:1] not in "-+~"


if __name__ == "__main__":
    main()
