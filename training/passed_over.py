"""Files of the training data that could not be used, told once for every pass through the data."""

import logging
from collections.abc import Iterable

from util.errors import first_few
from util.processes import Processes

log = logging.getLogger(__name__)


class PassedOver:
    """What was passed over in one stage, in all processes; others took its place.

    Args:
        batch_size: samples of an iteration, over all processes.
        samples_in_pass: None: the data have no end, so all is told when the stage ends.
    """

    def __init__(self, stage: str, batch_size: int, samples_in_pass: int | None, processes: Processes) -> None:
        self._stage, self._batch_size, self._samples_in_pass = stage, batch_size, samples_in_pass
        self._processes = processes
        self._noted: dict[str, None] = {}
        self._told: set[str] = set()

    def note(self, lines: Iterable[str]) -> None:
        """Remember why entries were passed over, a line each."""
        self._noted |= dict.fromkeys(lines)

    def iteration_done(self, done: int) -> None:
        """Tell what is new, if a pass through the data ended with this iteration. All processes call it."""
        if self._samples_in_pass is None:
            return
        if (done - 1) * self._batch_size // self._samples_in_pass < done * self._batch_size // self._samples_in_pass:
            self.tell()

    def tell(self) -> None:
        """Tell what has not been told yet. All processes call it."""
        noted = [line for lines in self._processes.gather(list(self._noted)) for line in lines]
        if new := [line for line in dict.fromkeys(noted) if line not in self._told]:
            log.warning("stage %s passed over %s", self._stage, f"{len(new)} entries of its data: {first_few(new)}")
        self._told.update(new)
