"""XMem's working and long-term memory once more, slowly: the oracle that the fast memory is compared with.

Every memory element is a record of its own, every sum runs over records, every object has its own softmax over the
elements that hold a value for it, and everything is float64. Nothing is stacked, expanded or shared between objects,
so that each method can be read beside the paper (Cheng and Schwing, ECCV 2022, sections 3.2–3.4, equations 1–3).
What the paper leaves open is decided as follows.

* Similarity is divided by √Cᵏ. In a read the softmax is over the `top_k` most similar elements, in potentiation over
  all candidates.
* An element has no value for an object that entered after it, and no part in that object's softmax.
* The frame of an object's first annotation stays in working memory as long as the object does. That of the video's
  first objects counts in T_max, as in the paper; that of later objects counts in neither T_min nor T_max, no more
  than a frame that the caller made permanent.
* Usage and a prototype's shrinkage, which all objects share, go by the weights of the object that is there longest.
* A prototype is as old as its source. Both stores are in order of age, also where a frame that had been kept for an
  object since removed is consolidated late. Among equally used elements the older become prototypes first, and are
  evicted first.
* An object that is removed takes the elements along that hold values for no other; if it comes back, it is new.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from inference.config import InferenceConfig
from inference.strategies.consolidation import Consolidation

Vector = Float[np.ndarray, "channels"]


@dataclass(eq=False)
class MemoryFrame:
    """When a memory frame was stored, and why it stays in working memory, if it does."""

    time: int
    """0 for the first memory frame of the video."""
    annotated: set[int]
    """The objects still present whose first annotation this is."""
    permanent: bool

    @property
    def kept(self) -> bool:
        """Never consolidated."""
        return self.permanent or bool(self.annotated)

    @property
    def counted(self) -> bool:
        """Counts in T_max."""
        return not self.permanent and (self.time == 0 or not self.annotated)


@dataclass(eq=False)
class Element:
    """One position of a memory frame (working memory) or one prototype (long-term memory)."""

    frame: MemoryFrame
    """Where it, or the candidate it is the prototype of, was stored."""
    key: Vector
    shrinkage: float
    values: dict[int, Vector]
    """By object; an object that entered later is missing."""
    selection: Vector | None = None
    """Working memory only: what the element asks for when its key becomes a query (potentiation)."""
    use: float = 0.0
    life: float = 1e-7

    @property
    def usage(self) -> float:
        """Affinity received per read (section 3.3, "Prototype Selection")."""
        return self.use / self.life


def similarity(elements: Sequence[Element], key: Vector, selection: Vector) -> dict[Element, float]:
    """One column of S(k, q): equation 2, unexpanded, over √Cᵏ."""
    return {
        element: -element.shrinkage * (selection @ (element.key - key) ** 2) / math.sqrt(len(key))
        for element in elements
    }


def affinity(similarities: dict[Element, float], label: int, top_k: int | None = None) -> dict[Element, float]:
    """One column of W(k, q) (section 3.2) for one object: a distribution over the elements with a value for it.

    Of these only the `top_k` most similar appear in the result (all, if `top_k` is None or there are fewer).
    """
    valid = [element for element in similarities if label in element.values]
    nearest = sorted(valid, key=similarities.__getitem__, reverse=True)[:top_k]
    likeness = {element: math.exp(similarities[element] - similarities[nearest[0]]) for element in nearest}
    total = math.fsum(likeness.values())
    return {element: share / total for element, share in likeness.items()}


class MemoryOracle:
    """Working and long-term memory of one video. Both stores are lists of elements, the older ones first."""

    def __init__(self, config: InferenceConfig) -> None:
        self.top_k = config.working.top_k
        when_full = config.working.when_full
        self.long_term_settings = when_full if isinstance(when_full, Consolidation) else None
        self.objects: list[int] = []
        """Labels in order of arrival."""
        self.working: list[Element] = []
        self.long_term: list[Element] = []
        self.time = 0

    @property
    def longest_standing(self) -> int:
        """An object of the group that has been there longest (its objects arrived together: their weights agree)."""
        return self.objects[0]

    def insert(
        self,
        key: Float[Tensor, "key_dim height width"],
        shrinkage: Float[Tensor, "1 height width"],
        selection: Float[Tensor, "key_dim height width"],
        values: Float[Tensor, "objects value_dim height width"],
        objects: Sequence[int],
        permanent: bool = False,
    ) -> None:
        """Append a memory frame to working memory (section 3.4) and consolidate if that is full now."""
        key, shrinkage, selection, values = map(as_float64, (key, shrinkage, selection, values))
        entering = [label for label in objects if label not in self.objects]
        self.objects += entering
        frame = MemoryFrame(self.time, annotated=set(entering), permanent=permanent)
        self.time += 1
        for y, x in positions(key):
            self.working.append(
                Element(
                    frame=frame,
                    key=key[:, y, x],
                    shrinkage=shrinkage[0, y, x],
                    values={label: value[:, y, x] for label, value in zip(objects, values, strict=True)},
                    selection=selection[:, y, x],
                )
            )
        counted = sum(element.frame.counted for element in self.working)
        if self.long_term_settings is not None and counted >= self.long_term_settings.max_mid_term_frames * len(
            positions(key)
        ):
            self.consolidate()

    def read(
        self,
        key: Float[Tensor, "key_dim height width"],
        selection: Float[Tensor, "key_dim height width"],
        count_usage: bool = True,
    ) -> Float[np.ndarray, "objects value_dim height width"]:
        """F = v W(k, q) (equation 1) over long-term and working memory together, objects in order of arrival."""
        key, selection = map(as_float64, (key, selection))
        elements = self.long_term + self.working
        value_dim = len(self.working[0].values[self.longest_standing])
        readout = np.zeros((len(self.objects), value_dim, *key.shape[1:]))
        for y, x in positions(key):
            similarities = similarity(elements, key[:, y, x], selection[:, y, x])
            for index, label in enumerate(self.objects):
                weights = affinity(similarities, label, self.top_k)
                readout[index, :, y, x] = sum(weight * element.values[label] for element, weight in weights.items())
                if count_usage and label == self.longest_standing:
                    for element, weight in weights.items():
                        element.use += weight
        if count_usage:
            for element in elements:
                element.life += 1
        return readout

    def delete_objects(self, labels: Sequence[int]) -> None:
        """Forget objects: their values, their claims on frames, and the elements that hold values for no other."""
        self.objects = [label for label in self.objects if label not in labels]
        for element in self.working + self.long_term:
            element.values = {label: value for label, value in element.values.items() if label in self.objects}
            element.frame.annotated &= set(self.objects)
        self.working = [element for element in self.working if element.values]
        self.long_term = [element for element in self.long_term if element.values]

    def consolidate(self) -> None:
        """Turn all frames but the kept ones and the T_min − 1 last others into prototypes (section 3.3)."""
        frames = dict.fromkeys(element.frame for element in self.working)
        others = [frame for frame in frames if not frame.kept]
        leaving = others[: max(0, len(others) - (self.long_term_settings.min_mid_term_frames - 1))]
        candidates = [element for element in self.working if element.frame in leaving]
        selected = self.select(candidates)
        self.evict(len(self.long_term) + len(selected) - self.long_term_settings.max_long_term_elements)
        self.long_term += [self.potentiate(element, candidates) for element in selected]
        self.long_term.sort(key=lambda element: element.frame.time)  # no-op but for a frame that was kept for a while
        self.working = [element for element in self.working if element not in candidates]

    def select(self, candidates: list[Element]) -> list[Element]:
        """The P most used candidates, the older first among equals, in order of time ("Prototype Selection")."""
        ranked = sorted(candidates, key=lambda element: -element.usage)  # stable: equals stay in order of time
        return [element for element in candidates if element in ranked[: self.long_term_settings.num_prototypes]]

    def potentiate(self, element: Element, candidates: list[Element]) -> Element:
        """The prototype of a candidate: vᵖ = vᶜ W(kᶜ, kᵖ) for each object it has a value for (equation 3)."""
        similarities = similarity(candidates, element.key, element.selection)
        shared = affinity(similarities, self.longest_standing)
        own = {label: affinity(similarities, label) for label in element.values}
        return Element(
            frame=element.frame,
            key=element.key,
            shrinkage=sum(weight * other.shrinkage for other, weight in shared.items()),
            values={
                label: sum(weight * other.values[label] for other, weight in weights.items())
                for label, weights in own.items()
            },
        )

    def evict(self, number: int) -> None:
        """Drop the least used prototypes, the oldest first among equals ("Removing Obsolete Features")."""
        ranked = sorted(self.long_term, key=lambda element: element.usage)  # stable: equals stay in order of time
        evicted = ranked[: max(0, number)]
        self.long_term = [element for element in self.long_term if element not in evicted]


def as_float64(tensor: Tensor) -> Float[np.ndarray, "..."]:
    return np.asarray(tensor, dtype=np.float64)


def positions(feature: Float[np.ndarray, "channels height width"]) -> list[tuple[int, int]]:
    """The positions (y, x) of a feature map, row by row."""
    return list(np.ndindex(feature.shape[1:]))
