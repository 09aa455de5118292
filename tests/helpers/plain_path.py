"""The published per-frame loop and memory without strategies: what the default ones are compared with, bit for bit.

It decides for itself when a frame is stored, when there is a deep update, and what a full memory does; all else is
inherited.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from inference.inference_core import InferenceCore, read_masks
from inference.memory.manager import MemoryManager
from inference.memory.working import MemoryFrame
from inference.padding import Padding
from model.memory_reading import affinity, memory_rows, query_rows, readout, rows_of, similarity
from model.network import STRIDE


class PlainMemory(MemoryManager):
    def insert(self, key: Tensor, shrinkage: Tensor, selection: Tensor, values: Tensor, objects: Sequence[int]) -> None:
        arrived = list(objects[len(self._arrival) :])
        self._arrival.update(dict.fromkeys(arrived, self._insertions))
        keys, shrinkages = rows_of(key), rows_of(shrinkage)
        if self._origin is None:
            self._origin = keys.mean(dim=0, keepdim=True)
        keys = keys - self._origin
        self.working.append_frame(
            MemoryFrame(first=self._insertions == 0, annotates=set(arrived)),
            {label: rows_of(value) for label, value in zip(objects, values, strict=True)},
            memory_row=memory_rows(keys, shrinkages),
            time=torch.full((len(keys),), self._insertions),
            key=keys,
            shrinkage=shrinkages,
            selection=rows_of(selection),
        )
        self._insertions += 1
        if self.working.counted_frames >= self.config.max_mid_term_frames:
            self.consolidate()

    def consolidate(self) -> None:
        candidates = self.working.candidates(self.config.min_mid_term_frames)
        count = min(self.config.num_prototypes, len(candidates))
        by_usage = self.working.usage[candidates].argsort(descending=True, stable=True)
        prototypes = by_usage[:count].sort().values
        excess = self.long_term.size + count - self.config.max_long_term_elements
        if excess > 0:
            self.long_term.remove(self.long_term.usage.argsort(stable=True)[:excess])
        self.potentiate(candidates, prototypes)
        self.working.remove_candidates(candidates)

    def potentiate(self, candidates: Tensor, prototypes: Tensor) -> None:
        columns = {name: rows.rows[candidates] for name, rows in self.working.shared.items()}
        key = columns["key"][prototypes]
        similarities = similarity(query_rows(key, columns["selection"][prototypes]), columns["memory_row"])
        values = {}
        for index, group in enumerate(self.arrivals):
            start = self.working.first_element(group[0])
            valued = candidates >= start
            weights = affinity(similarities[valued[prototypes]][:, valued])
            if index == 0:
                shrinkage = readout(weights, columns["shrinkage"])
            for label in group:
                values[label] = readout(weights, self.working.values_of(label)[candidates[valued] - start])
        self.long_term.append(values, memory_row=memory_rows(key, shrinkage), time=columns["time"][prototypes])


class PlainCore(InferenceCore):
    def reset(self) -> None:
        super().reset()
        self.memory = PlainMemory(self.config, self.network.config.hidden_dim)

    @torch.no_grad()
    def step(self, image: Tensor, mask: Tensor | None = None, end: bool = False) -> Tensor:
        given, every = read_masks(mask, None, image.shape[-2:]), self.config.deep_update_every
        if given is None and self._time - self._last_memory_time < self.config.mem_every:
            is_memory_frame = False
        else:
            is_memory_frame = not end
        last_deep = self._last_deep_update_time
        is_deep_update = is_memory_frame and (every < 0 or last_deep is None or self._time - last_deep >= every)
        is_normal_update = not end and not (every < 0 and is_deep_update)

        padding = Padding.to_multiple(*image.shape[-2:], STRIDE)
        padded = padding.pad(image).unsqueeze(0)
        query, features = self.network.encode_key(padded)
        key, shrinkage, selection = query.key[0], query.shrinkage[0], query.selection[0]
        prob, known, sensory = None, self.objects, self.memory.sensory
        if known and not (given and set(known) <= set(given.objects)):
            read = self.memory.read(key, selection).unsqueeze(0)
            segmentation = self.network.segment(features, read, sensory.hidden, is_normal_update)
            prob = segmentation.prob[0]
            if is_normal_update:
                sensory.hidden = segmentation.hidden
        if given is not None:
            sensory.add_objects(len(self._objects.add(given.objects)), like=query.key)
            prob = self._take_masks(prob, known, given.objects, padding.pad(given.masks.to(image)))
        if is_memory_frame:
            masks = prob[1:].unsqueeze(0)
            encoded = self.network.encode_value(padded, features.f16, sensory.hidden, masks, is_deep_update)
            self.memory.insert(key, shrinkage, selection, encoded.value[0], self.objects)
            self._last_memory_time = self._time
            if is_deep_update:
                sensory.hidden, self._last_deep_update_time = encoded.hidden, self._time
        self._time += 1
        return padding.crop(prob)
