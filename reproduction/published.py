"""What the paper and its authors' result pages say, from `published_results.json`."""

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).with_name("published_results.json")


class Figure(NamedTuple):
    """A figure, with its standard deviation where there is one."""

    mean: float
    deviation: float | None = None


@cache
def published_results() -> dict[str, Any]:
    """Section (mostly a data set) → row → figure, as in the file."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def published(section: str, row: str, figure: str) -> Figure | None:
    """What was published of a row; None where nothing was.

    Raises:
        KeyError: there is no such section.
    """
    value = published_results()[section].get(row, {}).get(figure)
    match value:
        case None:
            return None
        case [mean, deviation]:
            return Figure(mean, deviation)
        case str():  # "6328%"
            return Figure(float(value.rstrip("%")))
        case _:
            return Figure(value)
