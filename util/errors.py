"""The one exception that stands for a mistake of the user's, not of the program's."""


class UserError(Exception):
    """Something the user can mend: a path, a flag, a damaged file.

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
