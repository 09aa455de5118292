"""The one exception that stands for a mistake of the user's, not of the program's; and how its messages list things."""

from collections.abc import Sequence


def first_few(items: Sequence[object], most: int = 10) -> str:
    """The first `most` items in one line, and how many more there are."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + rest


class UserError(Exception):
    """Something the user can mend: a path, a flag, a damaged file.

    The message is one line that names the file or flag and says what is wrong with it (and the remedy where there
    is one). Programs print it to stderr without a traceback; any other exception is a programming error.
    """
