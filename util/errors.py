"""The one exception that stands for a mistake of the user's, not of the program's."""


class UserError(Exception):
    """Something the user can mend: a path, a flag, a damaged file.

    The message is one line that names the file or flag and says what is wrong with it (and the remedy where there
    is one). Programs print it to stderr without a traceback; any other exception is a programming error.
    """
