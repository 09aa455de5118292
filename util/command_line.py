"""Command lines: a parser and a runner that report a user's mistake in one line, and their exit codes."""

import argparse
import sys
from collections.abc import Callable, Mapping
from io import TextIOWrapper
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from util.errors import SettingError, UserError
from util.machine import keep_freed_memory

if TYPE_CHECKING:
    from tqdm import tqdm

MISTAKE, INTERRUPTED = 2, 130  # exit codes


class Parser(argparse.ArgumentParser):
    """A parser that reports bad flags as one line, like all mistakes of a user."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")


def progress_bar(**settings: Any) -> "tqdm[Any]":
    """Return tqdm's bar with these settings, which in a log shows few of its states: a log keeps all of them."""
    from tqdm import tqdm  # which most programs do without

    return tqdm(mininterval=0.2 if sys.stderr.isatty() else 10, dynamic_ncols=True, **settings)


def run_one_of(
    commands: Mapping[str, ModuleType], program: str, description: str, argv: list[str] | None, after_interrupt: str
) -> int:
    """Run the command that the first argument names; returns the exit code.

    Args:
        commands: by their names, modules with `add_arguments`, which is given a parser, and `run`, which is given the
            arguments and returns an exit code, None for 0.
    """
    parser = argparse.ArgumentParser(prog=f"python -m scripts.{program}", description=description)
    parsers = parser.add_subparsers(dest="command", required=True)
    for name, module in commands.items():
        module.add_arguments(parsers.add_parser(name, help=(module.__doc__ or "").partition("\n")[0]))
    arguments = parser.parse_args(argv)
    module = commands[arguments.command]
    return run_program(f"{program} {arguments.command}", lambda: module.run(arguments) or 0, after_interrupt)


def run_program(name: str, run: Callable[[], int], after_interrupt: str) -> int:
    """Run a program, and report a user's mistake or an interruption in one line on stderr.

    The process keeps memory that is freed (see `keep_freed_memory`).

    Args:
        name: the program's name, before the message.
        run: the program; returns its exit code.
        after_interrupt: what the user can do after Ctrl-C.

    Returns:
        The exit code: that of `run`, 2 after a user's mistake or a path without permission, 130 after Ctrl-C.
    """
    keep_freed_memory()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files may be any bytes
    try:
        return run()
    except (UserError, SettingError) as error:
        flag = "--" if isinstance(error, SettingError) else ""  # flags are named as the settings
        sys.stderr.write(f"{name}: {flag}{error}\n")
        return MISTAKE
    except PermissionError as error:  # a folder that may not be entered, where it is asked what lies in it
        sys.stderr.write(f"{name}: {error.filename}: {error.strerror}\n")
        return MISTAKE
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted; {after_interrupt}\n")
        return INTERRUPTED
