"""How a program of ours ends: the command line and the experiments alike."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from wellread.errors import UserError
from wellread.progress import say

# Commands that begin anew each time; nothing is kept of one that was interrupted.
AT_ONCE = frozenset({"bench", "committee", "export", "extend", "predict"})


def guarded(main: Callable[[], object]) -> None:
    """Run a program; whatever stops it becomes a message and an exit code, without a traceback.

    Bad input exits with 2, an interruption with 130 (Ctrl-C) or 143 (SIGTERM, as schedulers and containers
    send it), a defect with 1.  ``--debug`` anywhere on the command line shows the traceback; ``main`` does
    not see it.
    """
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    terminations: list[int] = []

    def terminate(number: int, _: object) -> NoReturn:
        terminations.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    try:
        main()
    except UserError as error:
        if debug:
            raise
        say(f"Error: {error}")
        sys.exit(UserError.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer makes an exit with 130 of an interruption, and one with 1 where nobody reads on (`| head -1`).
        if isinstance(stop, SystemExit) and stop.code != 128 + signal.SIGINT:
            if isinstance(stop.__context__, BrokenPipeError):
                sys.exit(0)
            raise
        say("Interrupted; the same command continues." if _continues() else "Interrupted.")
        sys.exit(128 + (terminations[0] if terminations else signal.SIGINT))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        say(f"Unexpected {type(error).__name__}: {error}")
        again = "The run can be continued by the same command; " if _continues() else ""
        say(f"{again}--debug shows the traceback.")
        sys.exit(1)


def _continues() -> bool:
    """Whether the same command goes on where this one ended."""
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "") not in AT_ONCE
