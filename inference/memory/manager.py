"""What is remembered, and what moves from working to long-term memory (sections 3.3 and 3.4).

    insert → working memory ──(T_max frames)──► prototypes by usage ──► potentiation ──► long-term memory ──► eviction
    read   ← working and long-term memory together

Keys are shared by all objects. An element has no value for an object that was not there when it was stored; it then
takes no part in that object's softmax, neither in a read nor in potentiation.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inference.config import InferenceConfig
from inference.memory.element_store import ElementStore
from inference.memory.long_term import LongTermMemory
from inference.memory.reading import read_stores
from inference.memory.sensory import SensoryMemory
from inference.memory.working import MemoryFrame, WorkingMemory
from model.memory_reading import affinity, memory_rows, query_rows, readout, rows_of, similarity
from model.precision import full_precision


class MemoryManager:
    """The three stores of one video."""

    def __init__(self, config: InferenceConfig, hidden_dim: int = 0) -> None:
        self.config = config
        self.working = WorkingMemory()
        self.long_term = LongTermMemory(capacity=config.max_long_term_elements)
        self.sensory = SensoryMemory(hidden_dim)
        self._origin: Float[Tensor, "1 key_dim"] | None = None  # keys are measured from here, see model/memory_reading
        self._insertions = 0
        self._arrival: dict[int, int] = {}  # object → the insertion at which it arrived, in channel order

    @property
    def objects(self) -> list[int]:
        """The labels of the objects that are remembered, in channel order."""
        return list(self._arrival)

    @property
    def arrivals(self) -> list[list[int]]:
        """The objects in groups that arrived together; the first is the longest-standing one."""
        return [list(group) for _, group in groupby(self._arrival, key=self._arrival.__getitem__)]

    @torch.no_grad()
    def insert(
        self,
        key: Float[Tensor, "key_dim height width"],
        shrinkage: Float[Tensor, "1 height width"],
        selection: Float[Tensor, "key_dim height width"],
        values: Float[Tensor, "objects value_dim height width"],
        objects: Sequence[int],
        permanent: bool = False,
    ) -> None:
        """Store a frame in working memory, and consolidate if that fills it.

        Args:
            objects: the labels of all objects that are there now, in channel order. This frame is kept for those that
                are new to the memory: it is their first annotation.
            permanent: never consolidate this frame, and do not count it in T_min and T_max.
        """
        arrived = list(objects[len(self._arrival) :])
        if list(objects) != [*self._arrival, *arrived] or len(values) != len(objects):
            raise ValueError(f"values of objects {list(objects)} do not continue {list(self._arrival)}")
        self._arrival.update(dict.fromkeys(arrived, self._insertions))

        keys = rows_of(key)
        if self._origin is None:
            self._origin = keys.mean(dim=0, keepdim=True)
        keys = keys - self._origin
        shrinkages = rows_of(shrinkage)
        columns = {
            "memory_row": memory_rows(keys, shrinkages),
            "time": torch.full((len(keys),), self._insertions, device=keys.device),
        }
        if self.config.enable_long_term:  # what consolidation will need; a memory that only grows does without
            columns |= {"key": keys, "shrinkage": shrinkages, "selection": rows_of(selection)}
            self.working.reserve(self.config.max_mid_term_frames * len(keys))
        frame = MemoryFrame(first=self._insertions == 0, permanent=permanent, annotates=set(arrived))
        self.working.append_frame(
            frame, {label: rows_of(value) for label, value in zip(objects, values, strict=True)}, **columns
        )
        self._insertions += 1
        if self.config.enable_long_term and self.working.counted_frames >= self.config.max_mid_term_frames:
            self.consolidate()

    @torch.no_grad()
    def read(
        self,
        key: Float[Tensor, "key_dim height width"],
        selection: Float[Tensor, "key_dim height width"],
        count_usage: bool = True,
    ) -> Float[Tensor, "objects value_dim height width"]:
        """Read working and long-term memory together, for every object in channel order (eq. 1)."""
        queries = query_rows(rows_of(key) - self._origin, rows_of(selection))
        read = read_stores(queries, [self.long_term, self.working], self.arrivals, self.config.top_k, count_usage)
        return read.transpose(1, 2).unflatten(2, key.shape[1:])

    @torch.no_grad()
    def delete_objects(self, labels: Sequence[int]) -> None:
        """Forget objects; elements that no remaining object has a value for go with them."""
        for label in labels:
            self._arrival.pop(label, None)
        self.working.delete_objects(list(labels))
        self.long_term.delete_objects(list(labels))
        if not self._arrival:
            self._origin = None

    def consolidate(self) -> None:
        """Move the candidates' most used elements, potentiated, to long-term memory; the rest are forgotten."""
        working = self.working
        candidates = working.candidates(self.config.min_mid_term_frames)
        count = min(self.config.num_prototypes, len(candidates))
        by_usage = working.usage[candidates].argsort(descending=True, stable=True)
        prototypes = by_usage[:count].sort().values  # indices into the candidates, in order of time
        self.long_term.evict(self.long_term.size + count - self.config.max_long_term_elements)
        self.potentiate(candidates, prototypes)
        working.remove_candidates(candidates)

    def potentiate(self, candidates: Int[Tensor, " candidates"], prototypes: Int[Tensor, " prototypes"]) -> None:
        """Enrich prototypes with what is similar among the candidates (eq. 3), and store them in long-term memory.

        Prototype keys are the candidates' own; values and shrinkage are averages over all candidates that have a
        value for the object (the longest-standing objects, for shrinkage), without top-k.
        """
        columns = {name: rows.rows[candidates] for name, rows in self.working.shared.items()}
        key = columns["key"][prototypes]
        similarities = similarity(query_rows(key, columns["selection"][prototypes]), columns["memory_row"])
        values = {}
        with full_precision(key):
            for index, group in enumerate(self.arrivals):
                start = self.working.first_element(group[0])
                valued = candidates >= start
                weights = affinity(similarities[valued[prototypes]][:, valued])
                if index == 0:
                    shrinkage = readout(weights, columns["shrinkage"])
                for label in group:
                    values[label] = readout(weights, self.working.values_of(label)[candidates[valued] - start])
        self.long_term.append(values, memory_row=memory_rows(key, shrinkage), time=columns["time"][prototypes])

    def state(self) -> dict[str, Any]:
        """Everything needed to continue in another process: plain values and tensors."""
        return {
            "working": self.working.state(),
            "long_term": self.long_term.state(),
            "hidden": self.sensory.hidden,
            "origin": self._origin,
            "insertions": self._insertions,
            "arrival": dict(self._arrival),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Fill a new manager with what `state` returned."""
        working = state["working"]
        if not self.config.enable_long_term:  # columns that `insert` would not go on with
            columns = {name: rows for name, rows in working["shared"].items() if name in ElementStore.columns}
            working = working | {"shared": columns}
        self.working.restore(working)
        self.long_term.restore(state["long_term"])
        self.sensory.hidden = state["hidden"]
        self._origin = state["origin"]
        self._insertions = state["insertions"]
        self._arrival = dict(state["arrival"])
