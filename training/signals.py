"""SIGTERM and SIGINT (Ctrl-C) during training: all processes stop after the same iteration, with a checkpoint.

`StopRequest` only notes the signal. The trainer's loop looks at it after every iteration.
"""

import signal
import time
from contextlib import AbstractContextManager
from typing import Any

SECONDS_BEFORE_A_SECOND_SIGNAL = 1.0
"""A second signal counts only after this time, since torchrun sends again what the terminal has sent to all."""


class StopRequest(AbstractContextManager[Any, None]):
    """Notes in `requested` that SIGTERM or SIGINT came while the block runs; a second SIGINT interrupts at once.

    Raises:
        KeyboardInterrupt: at the second SIGINT.
    """

    def __enter__(self) -> "StopRequest":
        self.requested = False
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _note(self, number: int, _: Any) -> None:
        if not self.requested:
            self.requested, self._since = True, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > SECONDS_BEFORE_A_SECOND_SIGNAL:
            raise KeyboardInterrupt

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
