"""The processes that work together: those that `torchrun` started, or this one alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from util.errors import UserError

Value = TypeVar("Value")

LONGEST_WAIT = timedelta(days=1)
"""Time to wait for another process's word, such as that of one which validates. If one dies, `torchrun` ends all at
once. Between GPUs, where all compute the same, the much shorter default holds, so that one which hangs is noticed."""


@dataclass(frozen=True)
class Processes:
    """This process's place among the others.

    What they compute is added up where it lies, with NCCL on GPUs; what they tell each other goes from CPU to CPU, so
    that no device is waited for.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    cpu_group: Any = field(default=None, repr=False)
    """The process group for what goes from CPU to CPU."""

    @classmethod
    def join(cls, device_type: str) -> "Processes":
        """Join the processes that `torchrun` started, if it did: with NCCL on CUDA devices, with Gloo elsewhere.

        Raises:
            UserError: torchrun restarted them, and they meet addresses of those before.
        """
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        try:
            dist.init_process_group("nccl" if device_type == "cuda" else "gloo")
            cpu_group = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
        except RuntimeError as error:
            has_restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
            if not has_restarted or os.environ.get("TORCH_DISABLE_SHARE_RDZV_TCP_STORE") == "1":
                raise
            raise UserError(
                "the processes that torchrun restarted do not find each other: start torchrun with "
                f"TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment ({error})"
            ) from error
        return cls(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]), cpu_group)

    def leave(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    def share_of(self, batch_size: int) -> range:
        """Return the indices of this process's samples in a batch.

        Raises:
            ValueError: the batch does not divide over the processes.
        """
        if batch_size % self.count:
            raise ValueError(f"a batch of {batch_size} samples does not divide over {self.count} processes")
        mine = batch_size // self.count
        return range(self.rank * mine, (self.rank + 1) * mine)

    def mean(self, values: Float[Tensor, " values"]) -> Float[Tensor, " values"]:
        """Return the mean over all processes, the same in each. It is not finite if any of the values is not."""
        if self.count > 1:
            dist.all_reduce(values)
            values = values / self.count
        return values

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process: the same in all."""
        if self.count == 1:
            return flag
        flags = torch.tensor([flag], dtype=torch.uint8)
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.cpu_group)
        return bool(flags.item())

    def gather(self, value: Value) -> list[Value]:
        """Return every process's value, by rank: the same in all."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self.cpu_group)
        return values

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Raise a UserError of any process in this block in all of them, at its end.

        So no process waits for one that has ended, and any of them can report the error.
        """
        message = ""
        try:
            yield
        except UserError as error:
            if self.count == 1:
                raise
            message = str(error)
        if self.count > 1 and self.any(bool(message)):
            raise UserError(next(filter(None, self.gather(message))))
