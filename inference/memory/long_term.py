"""Long-term memory: prototypes, evicted when least used (section 3.3)."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from inference.memory.element_store import ElementStore


class LongTermMemory(ElementStore):
    """Prototypes, in the order in which their source elements were stored."""

    def evict(self, count: int) -> None:
        """Remove the `count` least used prototypes, the oldest first among equals."""
        if count > 0:
            self.remove(self.usage.argsort(stable=True)[:count])

    def append(
        self, values: Mapping[int, Float[Tensor, "valued value_dim"]], **columns: Shaped[Tensor, "count ..."]
    ) -> None:
        """Add prototypes, in order of time among themselves, and put them where they belong among the others.

        They are younger than all others, except after a frame that was kept for an object became an ordinary one
        because the object was removed.
        """
        owners = {
            label: torch.arange(self.first_element(label), self.size, device=rows.device)
            for label, rows in values.items()
        }
        super().append(values, **columns)
        if not bool((self.time.diff() < 0).any()):
            return
        order = self.time.argsort(stable=True)
        position = order.argsort()
        for label, owned in owners.items():
            added = torch.arange(self.size - len(values[label]), self.size, device=owned.device)
            self.values[label].keep(position[torch.cat([owned, added])].argsort())
        for rows in self.shared.values():
            rows.keep(order)
