"""Memory elements in preallocated buffers.

An element is what is stored for one position of one memory frame (or one prototype): its memory row, its
usage, when it was stored, and a value for each object that was there then. Elements lie in order of time, so those
that have a value for an object are always the last ones: the object's values are a buffer of their own whose rows
belong to the store's last rows.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from model.memory_reading import SparseAffinity
from util.device import send

USE_UNIT = 2.0**-32
"""Affinity is added up in whole units of this size: the sum is then the same in any order, which GPUs do not fix."""

LIFE_AT_BIRTH = 1e-7
"""An element that was never read has usage 0 / LIFE_AT_BIRTH = 0."""


class Rows:
    """Rows of one kind in a buffer that is allocated at the first append and doubles when it is full."""

    def __init__(self, capacity: int = 0) -> None:
        self.capacity = capacity
        self.size = 0
        self._buffer: Tensor | None = None

    @property
    def rows(self) -> Shaped[Tensor, "size *shape"]:
        """A view of the rows in use."""
        if self._buffer is None:
            raise LookupError("nothing was stored yet")
        return self._buffer[: self.size]

    def append(self, rows: Shaped[Tensor, "count *shape"]) -> None:
        size = self.size + len(rows)
        if self._buffer is None:
            self._buffer = rows.new_empty(max(self.capacity, size), *rows.shape[1:])
        elif size > len(self._buffer):
            grown = self._buffer.new_empty(max(2 * len(self._buffer), size), *rows.shape[1:])
            grown[: self.size] = self.rows
            self._buffer = grown
        self._buffer[self.size : size] = rows
        self.size = size

    def keep(self, kept: Int[Tensor, " kept"]) -> None:
        """Keep the rows at these indices, in this order; the buffer stays."""
        if self._buffer is not None:  # else there are none: a store may do without some of its columns
            self._buffer[: len(kept)] = self._buffer[kept]
            self.size = len(kept)


def in_units(affinity: Float[Tensor, " elements"]) -> Int[Tensor, " elements"]:
    """Return affinity in units of `USE_UNIT`."""
    return (affinity / USE_UNIT).to(torch.int64)


class ElementStore:
    """Elements in order of time. Columns all elements have are `Rows` by name; values are `Rows` by object."""

    columns: tuple[str, ...] = ("memory_row", "time", "use", "life")

    def __init__(self, capacity: int = 0) -> None:
        self.capacity = capacity
        self.shared = {name: Rows(capacity) for name in self.columns}
        self.values: dict[int, Rows] = {}

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.shared["memory_row"].size

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return sum(rows.rows.nbytes for rows in (*self.shared.values(), *self.values.values()) if rows.size)

    def reserve(self, capacity: int) -> None:
        """Make buffers that are yet to be allocated this large."""
        self.capacity = capacity
        for rows in self.shared.values():
            rows.capacity = capacity

    @property
    def memory_rows(self) -> Float[Tensor, "elements row"]:
        return self.shared["memory_row"].rows

    @property
    def time(self) -> Int[Tensor, " elements"]:
        """The insertion at which each element, or a prototype's source element, was stored."""
        return self.shared["time"].rows

    @property
    def usage(self) -> Float[Tensor, " elements"]:
        """How much affinity each element has drawn per read since it entered the store (section 3.3)."""
        if not self.size:
            return torch.zeros(0)
        use, life = self.shared["use"].rows, self.shared["life"].rows
        return use.to(life.dtype) * USE_UNIT / life

    def first_element(self, label: int) -> int:
        """The index of the first element that has a value for this object; `size` where none has."""
        return self.size - (self.values[label].size if label in self.values else 0)

    def values_of(self, label: int) -> Float[Tensor, "valued value_dim"]:
        """The values of elements from `first_element(label)` on."""
        return self.values[label].rows

    def append(
        self, values: Mapping[int, Float[Tensor, "valued value_dim"]], **columns: Shaped[Tensor, "count ..."]
    ) -> None:
        """Add elements that are younger than all others, unused yet; each object has a value for the last `valued`."""
        life = torch.full_like(columns["memory_row"][:, 0], LIFE_AT_BIRTH)
        for name, rows in (columns | {"use": torch.zeros_like(life, dtype=torch.int64), "life": life}).items():
            self.shared[name].append(rows)
        for label, rows in values.items():
            self.values.setdefault(label, Rows(self.capacity)).append(rows)

    def count_use(self, affinity: Float[Tensor, "queries elements"] | SparseAffinity) -> None:
        """Record what the elements drew of some queries' affinity."""
        use = self.shared["use"].rows
        if isinstance(affinity, SparseAffinity):
            use.index_add_(0, affinity.elements.flatten(), in_units(affinity.weights.flatten()))
        else:
            use.add_(in_units(affinity.sum(dim=0)))

    def count_read(self) -> None:
        """Record the end of a read: of all of its queries, `count_use` has been told."""
        self.shared["life"].rows.add_(1)

    def keep(self, kept: Int[Tensor, " kept"]) -> None:
        """Keep the elements at these ascending indices only.

        Indices may be on the CPU whatever the store's device is: then nothing has to wait for the device.
        """
        every = send(kept, self.time.device)
        for label, rows in self.values.items():
            first = self.first_element(label)
            rows.keep(send(kept[kept >= first] - first, self.time.device) if first else every)
        for rows in self.shared.values():
            rows.keep(every)

    def remove(self, removed: Int[Tensor, " removed"]) -> None:
        """Remove the elements at these indices, which may be on the CPU as for `keep`."""
        remaining = torch.ones(self.size, dtype=torch.bool, device=removed.device)
        remaining[removed] = False
        self.keep(remaining.nonzero().flatten())

    def delete_objects(self, labels: list[int]) -> None:
        """Forget the objects' values, and the elements that no remaining object has a value for."""
        for label in labels:
            self.values.pop(label, None)
        if self.size:
            orphans = min((self.first_element(label) for label in self.values), default=self.size)
            if orphans:
                self.keep(torch.arange(orphans, self.size))

    def state(self) -> dict[str, Any]:
        """Everything needed to continue in another process."""
        return {
            "shared": {name: rows.rows.clone() for name, rows in self.shared.items() if rows.size},
            "values": {label: rows.rows.clone() for label, rows in self.values.items() if rows.size},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Fill an empty store with what `state` returned."""
        for name, rows in state["shared"].items():
            is_older = name == "use" and rows.is_floating_point()  # as files were before use was counted in units
            self.shared[name].append(in_units(rows) if is_older else rows)
        for label, rows in state["values"].items():
            self.values[label] = Rows(self.capacity)
            self.values[label].append(rows)
