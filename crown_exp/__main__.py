"""The entrance. A bare word goes to `crown_exp.cli`, anything else is a run and goes to Hydra.

Every end of the process passes through `main`: one line for what a user can mend, the code of the contract.
Nothing is imported up here that Ctrl-C could interrupt before anyone is there to catch it.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import NoReturn
else:
    import _signal as signal  # without the enums, which take long enough for a Ctrl-C


def main() -> "NoReturn":
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGINT, leave)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})  # as we start runs
    open_streams()
    code = flushed(guarded(sys.argv[1:]))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(
            number, signal.SIG_IGN
        )  # nothing is left to stop; Python's end undoes handlers
    sys.exit(code)


def leave(number: int, frame: object) -> "NoReturn":
    """A stop signal while no run is going on, which would see to its end: nothing needs an end.

    As an exception it would turn up anywhere: in an import, which may make another error of it, in a
    finalizer, which prints it, in Python's own `exec`, after which the process ends by the signal.
    """
    os.write(2, b"interrupted\n")
    os._exit(130 if number == signal.SIGINT else 75)


def open_streams() -> None:
    """Standard streams that take every text: closed ones take it to nowhere."""
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]


def flushed(code: int) -> int:
    """The exit code, after the last of standard output was written, or could not be."""
    try:
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        pass
    except OSError as error:
        code = code or unwritten(error)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more
    return code


def unwritten(error: OSError) -> int:
    """Say why standard output takes no more."""
    say(f"standard output cannot be written: {error.strerror}")
    return 80


def say(line: str) -> None:
    """One line on standard error, if that can be written."""
    try:
        sys.stderr.write(f"{line}\n")
    except (OSError, ValueError):
        pass


def guarded(arguments: "Sequence[str]") -> int:
    """The exit code of a command; what a user can mend is said in one line, without a traceback."""
    import errno

    from crown_exp.config.settings import known_secrets, wants_tracebacks
    from crown_exp.errors import CrownError, Stopped
    from crown_exp.outcome import ExitCode

    debugging = wants_tracebacks()
    try:
        return run(arguments)
    except CrownError as error:
        if debugging:
            import traceback

            traceback.print_exc()
        else:
            from crown_exp.config.secrets import redact

            say(redact(str(error), known_secrets()))
        return error.exit_code
    except Stopped as stopped:
        say(str(stopped))
        return int(stopped.exit_code)
    except KeyboardInterrupt:  # a prompt was left, or a task raised it
        say("interrupted")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:  # `| head`: nobody reads any more
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO) or error.filename:
            raise
        return unwritten(error)


def run(arguments: "Sequence[str]") -> int:
    """Hand the command line to whom it speaks to."""
    planning = is_plan(arguments)
    if is_word(arguments) and not planning:
        from crown_exp.cli import run_word

        return run_word(arguments)
    from crown_exp.hydra_app import run_app

    return run_app(arguments[1:] if planning else arguments, planning=planning)


def is_plan(arguments: "Sequence[str]") -> bool:
    """Whether it is the word `plan` with a command line of runs behind it, and no question for its page."""
    return len(arguments) > 1 and arguments[0] == "plan" and "--help" not in arguments


def is_word(arguments: "Sequence[str]") -> bool:
    """Whether the first argument is one of our words (`explain`, `init`, …) rather than an override."""
    if not arguments or arguments[0] == "--version":
        return True
    first = arguments[0]
    return "=" not in first and first[:1] not in "-+~"


if __name__ == "__main__":
    main()
