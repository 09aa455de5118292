"""What is remembered of a video, and what moves from working to long-term memory (sections 3.3 and 3.4).

    insert → working memory ──(T_max frames)──► prototypes by usage ──► potentiation ──► long-term memory ──► eviction
    read   ← working and long-term memory together

Which frames are inserted is decided by `InferenceCore.step`, with the strategy in `strategies/insertion.py`.

Keys are shared by all objects. An element has no value for an object that was not there when it was stored; it then
takes no part in that object's softmax, neither in a read nor in potentiation.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from inference.config import InferenceConfig
from inference.memory.element_store import ElementStore
from inference.memory.long_term import LongTermMemory
from inference.memory.reading import read_stores
from inference.memory.sensory import SensoryMemory
from inference.memory.working import MemoryFrame, WorkingMemory
from inference.object_manager import ObjectManager
from model.memory_reading import memory_rows, query_rows, rows_of


class MemoryCounts(NamedTuple):
    """The contents of a video's memory, and what has happened to it so far."""

    insertions: int
    """Frames that were stored."""
    working_frames: int
    working_elements: int
    frames_removed: int
    """Frames that left working memory because it was full."""
    consolidations: int
    prototypes: int
    """Elements that entered long-term memory."""
    evicted: int
    """Elements that long-term memory had no room for."""
    long_term_elements: int


class MemoryManager:
    """The three stores of one video.

    Args:
        objects: the objects being followed, shared with the per-frame loop, which adds to them.
        hidden_dim: channels of the sensory memory; 0: the network has none.
    """

    # What writes to the stores runs in inference mode whatever the caller's is, since rows that were stored in that
    # mode cannot be written to outside it.

    def __init__(self, config: InferenceConfig, objects: ObjectManager, hidden_dim: int = 0) -> None:
        self.config = config
        self.objects = objects
        self.when_full = config.when_full
        self.working = WorkingMemory()
        self.long_term = LongTermMemory(capacity=getattr(self.when_full, "max_long_term_elements", 0))
        self.sensory = SensoryMemory(hidden_dim)
        self._origin: Float[Tensor, "1 key_dim"] | None = None  # keys are measured from here, see model/memory_reading
        self._insertions = 0

    @property
    def counts(self) -> MemoryCounts:
        """Counts of frames and elements, for reports."""
        working, long_term = self.working, self.long_term
        return MemoryCounts(
            insertions=self._insertions,
            working_frames=len(working.frames),
            working_elements=working.size,
            frames_removed=working.frames_removed,
            consolidations=long_term.consolidations,
            prototypes=long_term.added,
            evicted=long_term.evicted,
            long_term_elements=long_term.size,
        )

    @property
    def nbytes(self) -> int:
        """The bytes of all that is remembered."""
        hidden = self.sensory.hidden
        return self.working.nbytes + self.long_term.nbytes + (0 if hidden is None else hidden.nbytes)

    @torch.inference_mode()
    def insert(
        self,
        key: Float[Tensor, "key_dim height width"],
        shrinkage: Float[Tensor, "1 height width"],
        selection: Float[Tensor, "key_dim height width"],
        values: Float[Tensor, "objects value_dim height width"],
        arrived: Collection[int] = (),
        permanent: bool = False,
        seed: int = 0,
    ) -> None:
        """Store a frame in working memory, and make room if that fills it.

        Args:
            values: one for each object, in channel order.
            arrived: the labels of the objects that are new with this frame, which is kept for them.
            permanent: never consolidate this frame, and do not count it in T_min and T_max.
            seed: the seed of what is random in making room; another one for every frame.
        """
        if self.config.working is None:
            return

        keys = rows_of(key)
        if self._origin is None:
            self._origin = keys.mean(dim=0, keepdim=True)
        keys = keys - self._origin
        shrinkages = rows_of(shrinkage)
        columns = {
            "memory_row": memory_rows(keys, shrinkages),
            "time": torch.full((len(keys),), self._insertions, device=keys.device),
        }
        for_later = {"key": keys, "shrinkage": shrinkages, "selection": rows_of(selection)}
        columns |= {name: for_later[name] for name in self.when_full.columns}
        full_at = self.when_full.full_at
        if full_at is not None:
            self.working.reserve(full_at * len(keys))
        frame = MemoryFrame(self._insertions == 0, permanent, annotates=set(arrived), time=self._insertions)
        rows = {label: rows_of(value) for label, value in zip(self.objects.labels, values, strict=True)}
        self.working.append_frame(frame, rows, **columns)
        self._insertions += 1
        if full_at is not None and self.working.counted_frames >= full_at:
            self.when_full.make_room(self.working, self.long_term, self.objects.arrivals, seed)

    @torch.inference_mode()
    def read(
        self,
        key: Float[Tensor, "key_dim height width"],
        selection: Float[Tensor, "key_dim height width"],
        count_usage: bool = True,
    ) -> Float[Tensor, "objects value_dim height width"]:
        """Read working and long-term memory together, for every object in channel order (eq. 1)."""
        if self._origin is None or self.config.working is None:
            raise LookupError("nothing was stored yet")
        queries = query_rows(rows_of(key) - self._origin, rows_of(selection))
        stores, arrivals = [self.long_term, self.working], self.objects.arrivals
        read = read_stores(queries, stores, arrivals, self.config.working.top_k, count_usage)
        return read.transpose(1, 2).unflatten(2, key.shape[1:])

    @torch.inference_mode()
    def delete_objects(self, labels: Sequence[int]) -> None:
        """Forget objects; elements that no remaining object has a value for go with them.

        Raises:
            KeyError: a label that is not followed.
        """
        known = self.objects.labels
        self.objects.remove(labels)
        self.sensory.keep([channel for channel, label in enumerate(known) if label in self.objects])
        self.working.delete_objects(list(labels))
        self.long_term.delete_objects(list(labels))
        if not self.objects.labels:
            self._origin = None

    def state(self) -> dict[str, Any]:
        """Return everything needed to continue in another process, as plain values and tensors."""
        return {
            "working": self.working.state(),
            "long_term": self.long_term.state(),
            "hidden": self.sensory.hidden,
            "origin": self._origin,
            "insertions": self._insertions,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Fill a new manager with what `state` returned."""
        working = state["working"]
        stored = {*ElementStore.columns, *self.when_full.columns}  # `insert` appends to all of these
        shared = {name: rows for name, rows in working["shared"].items() if name in stored}
        self.working.restore(working | {"shared": shared})
        self.long_term.restore(state["long_term"])
        self.sensory.hidden = state["hidden"]
        self._origin = state["origin"]
        self._insertions = state["insertions"]
