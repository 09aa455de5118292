"""Exceptions for a user's mistakes, as opposed to programming errors, and the shortening of lists in messages."""

from collections.abc import Mapping, Sequence


class UserError(Exception):
    """A mistake that the user can correct: a path, a flag, a damaged file.

    The message is one line that names the file or flag and says what is wrong with it (and the remedy where there
    is one). Programs print it to stderr without a traceback; any other exception is a programming error.
    """


class SettingError(ValueError):
    """A setting out of its range, or one that contradicts another.

    Attributes:
        field: the name of the setting.
        reason: what is wrong with it, to stand after its name.
        others: the settings with which it does not go together, and their values.
    """

    def __init__(self, field: str, reason: str, others: Mapping[str, object] | None = None) -> None:
        self.field, self.reason, self.others = field, reason, dict(others or {})
        beside = ", ".join(f"{name}={value}" for name, value in self.others.items())
        super().__init__(f"{field} {reason}" + (f" with {beside}" if beside else ""))


def counted(number: int, thing: str) -> str:
    """Return a number of things as text: 1 video, 2 videos."""
    return f"{number} {thing}" + "s" * (number != 1)


def first_few(items: Sequence[object], most: int = 10) -> str:
    """The first `most` items in one line, and how many more there are."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + rest
