"""Command lines: a parser and a runner that report a user's mistake in one line, and their exit codes."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from util.errors import SettingError, UserError
from util.machine import keep_freed_memory

MISTAKE, INTERRUPTED = 2, 130  # exit codes


class Parser(argparse.ArgumentParser):
    """A parser that reports bad flags as one line, like all mistakes of a user."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")


def run_program(name: str, run: Callable[[], int], after_interrupt: str) -> int:
    """Run a program, and report a user's mistake or an interruption in one line on stderr.

    The process keeps memory that is freed (see `keep_freed_memory`).

    Args:
        name: the program's name, before the message.
        run: the program; returns its exit code.
        after_interrupt: what the user can do after Ctrl-C.

    Returns:
        The exit code: that of `run`, 2 after a user's mistake, 130 after Ctrl-C.
    """
    keep_freed_memory()
    try:
        return run()
    except (UserError, SettingError) as error:
        flag = "--" if isinstance(error, SettingError) else ""  # flags are named as the settings
        sys.stderr.write(f"{name}: {flag}{error}\n")
        return MISTAKE
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted; {after_interrupt}\n")
        return INTERRUPTED
