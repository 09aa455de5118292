"""The two exceptions that stand for a mistake of the user's, not of the program's; and how messages list things."""

from collections.abc import Sequence


class UserError(Exception):
    """A mistake that the user can mend: a path, a flag, a damaged file.

    The message is one line that names the file or flag and says what is wrong with it (and the remedy where there
    is one). Programs print it to stderr without a traceback; any other exception is a programming error.
    """


class SettingError(ValueError):
    """A setting out of its range, or one that contradicts another.

    Attributes:
        field: the name of the setting.
        reason: what is wrong with it, to stand after its name.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field, self.reason = field, reason


def first_few(items: Sequence[object], most: int = 10) -> str:
    """The first `most` items in one line, and how many more there are."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + rest
