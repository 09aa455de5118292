"""Long-term memory: prototypes, evicted when least used (section 3.3)."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from inference.memory.element_store import ElementStore


class LongTermMemory(ElementStore):
    """Prototypes, in the order in which their source elements were stored."""

    def __init__(self, capacity: int = 0) -> None:
        super().__init__(capacity)
        self.consolidations = self.added = self.evicted = 0
        """Counts so far: consolidations, prototypes added, prototypes evicted."""
        self.newest = 0
        """No element is of a later time."""

    def evict(self, count: int) -> None:
        """Remove the `count` least used prototypes, the oldest first among equals."""
        if count > 0:
            size = self.size
            self.keep(self.usage.argsort(stable=True)[count:].sort().values)
            self.evicted += size - self.size

    def append_prototypes(
        self,
        values: Mapping[int, Float[Tensor, "valued value_dim"]],
        span: tuple[int, int],
        **columns: Shaped[Tensor, "count ..."],
    ) -> None:
        """Add prototypes, which are in order of time, and keep the whole store in order of time.

        They are younger than all others, except if they come from a frame that was kept for an object that has since
        been deleted.

        Args:
            values: each object's values, for the last `valued` prototypes.
            span: times of the oldest and of the newest candidate. They tell, without waiting for the device, whether
                the prototypes may have to be sorted in.
        """
        oldest, newest = span
        is_in_order = oldest >= self.newest
        self.newest = max(self.newest, newest)
        owners = {} if is_in_order else {label: self._elements_of(label) for label in values}
        self.append(values, **columns)
        self.consolidations += 1
        self.added += len(columns["time"])
        if is_in_order or not bool((self.time.diff() < 0).any()):
            return
        order = self.time.argsort(stable=True)
        position = order.argsort()
        for label, owned in owners.items():
            added = torch.arange(self.size - len(values[label]), self.size, device=owned.device)
            self.values[label].keep(position[torch.cat([owned, added])].argsort())
        for rows in self.shared.values():
            rows.keep(order)

    def _elements_of(self, label: int) -> Int[Tensor, " valued"]:
        """Return the indices of the elements that have a value for an object."""
        return torch.arange(self.first_element(label), self.size, device=self.time.device)

    def state(self) -> dict[str, Any]:
        return super().state() | {"counts": (self.consolidations, self.added, self.evicted)}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.consolidations, self.added, self.evicted = state.get("counts", (0, 0, 0))
        self.newest = int(self.time.max()) if self.size else 0
