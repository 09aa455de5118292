"""What all programs' command lines share."""

import argparse
from typing import NoReturn

from util.errors import UserError


class Parser(argparse.ArgumentParser):
    """Bad flags are told in one line, as all mistakes of the user's are."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")
