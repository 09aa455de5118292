"""How a video is followed; the fields are named as eval.py's flags, the defaults are the published ones."""

from dataclasses import dataclass, fields
from typing import Any

from inference.strategies.deep_update import DEEP_UPDATES, DeepUpdate, Never
from inference.strategies.insertion import INSERTIONS, Insertion
from inference.strategies.prototypes import PROTOTYPES
from inference.strategies.when_full import WHEN_FULL, Growth, WhenFull

STRATEGIES: dict[str, dict[str, type]] = {
    "insertion": INSERTIONS,
    "deep_update": DEEP_UPDATES,
    "when_full": WHEN_FULL,
    "prototypes": PROTOTYPES,
}
"""The fields that name a strategy, and the strategies there are for each by name."""

PUBLISHED_LONG_TERM = ("max_mid_term_frames", "min_mid_term_frames", "max_long_term_elements", "num_prototypes")
"""Without long-term memory they have no effect, and are allowed all the same, as in the published program."""


@dataclass(frozen=True)
class InferenceConfig:
    """Settings of the per-frame loop and the memory stores.

    Raises:
        ValueError: a value out of its range, two that contradict each other, or one that has no effect.
    """

    mem_every: int = 5
    """r: a frame enters working memory when this many frames have passed since the last one that did."""
    mem_offset: int = 0
    """o: the first frame to enter working memory after frame 0 does so this much earlier, at r − o."""
    insertion: str = "regular"
    """When frames enter working memory. "sparse": every ⌈L / max_memory_frames⌉-th of a video of L frames."""
    deep_update: str = "memory_frames"
    """When the value encoder refreshes the sensory memory; or "every_frame", or "never"."""
    deep_update_every: int = -1
    """Frames between deep updates of the sensory memory, on memory frames only; −1: with every memory frame."""
    top_k: int | None = 30
    """Memory elements that take part in each query's softmax; None: all."""
    enable_sensory: bool = True
    """False: the sensory memory stays at zero."""
    enable_working: bool = True
    """False: nothing is stored and zeros are read; the sensory memory is all there is."""
    enable_long_term: bool = True
    """False: working memory grows without bound and nothing is consolidated."""
    when_full: str = "consolidate"
    """What happens when working memory is full. "local_window": the first frame and the latest ones stay, to make
    max_memory_frames, and the others are forgotten."""
    max_mid_term_frames: int = 10
    """T_max: working memory is consolidated when it holds this many frames."""
    min_mid_term_frames: int = 5
    """T_min: frames that stay in working memory after a consolidation, the first one among them."""
    prototypes: str = "usage"
    """Which elements a consolidation moves to long-term memory: the most used ones; or "random" ones, or "centroids"
    of clusters of keys."""
    num_prototypes: int = 128
    """P: elements that one consolidation moves to long-term memory."""
    potentiation: bool = True
    """False: these take their values and shrinkage from one element each."""
    max_long_term_elements: int = 10000
    """LT_max: long-term memory evicts its least used elements so as not to exceed this."""
    max_memory_frames: int = 50
    """Memory frames at most, with sparse insertion or a local window."""

    def __post_init__(self) -> None:
        def require(condition: bool, complaint: str) -> None:
            if not condition:
                raise ValueError(complaint)

        require(self.mem_every >= 1, f"mem_every must be at least 1, not {self.mem_every}")
        require(
            0 <= self.mem_offset < self.mem_every,
            f"mem_offset must be at least 0 and less than mem_every ({self.mem_every}), not {self.mem_offset}",
        )
        for name, strategies in STRATEGIES.items():
            chosen = getattr(self, name)
            require(chosen in strategies, f"{name} must be one of {', '.join(strategies)}, not {chosen}")
        require(
            self.deep_update_every != 0,
            "deep_update_every must be positive, or negative to go with every memory frame; 0 is neither",
        )
        require(self.top_k is None or self.top_k >= 1, f"top_k must be at least 1 (None: all), not {self.top_k}")
        require(
            self.enable_sensory or self.enable_working,
            "enable_sensory and enable_working are both off: nothing would be remembered",
        )
        require(
            1 <= self.min_mid_term_frames < self.max_mid_term_frames,
            "working memory needs 1 <= min_mid_term_frames < max_mid_term_frames, "
            f"not {self.min_mid_term_frames} and {self.max_mid_term_frames}",
        )
        require(self.num_prototypes >= 1, f"num_prototypes must be at least 1, not {self.num_prototypes}")
        require(
            self.max_long_term_elements >= self.num_prototypes,
            f"max_long_term_elements ({self.max_long_term_elements}) must hold at least "
            f"one consolidation's num_prototypes ({self.num_prototypes})",
        )
        require(self.max_memory_frames >= 1, f"max_memory_frames must be at least 1, not {self.max_memory_frames}")
        idle = self._idle_settings()
        require(not idle, f"{self._values(idle)} would have no effect with {self._values(self._choices(idle))}")

    def insertion_strategy(self) -> Insertion:
        """When frames enter working memory."""
        return self._filled(INSERTIONS[self.insertion])

    def deep_update_strategy(self) -> DeepUpdate:
        """When there are deep updates."""
        return self._filled(DEEP_UPDATES[self.deep_update] if self.enable_sensory else Never)

    def when_full_strategy(self) -> WhenFull:
        """What happens when working memory is full."""
        return self._filled(WHEN_FULL[self.when_full] if self.enable_working and self.enable_long_term else Growth)

    def _filled(self, strategy: type) -> Any:
        """The strategy with its settings: fields of this class, which its own are named after.

        Where such a field names a strategy in turn, it is handed over as that.
        """
        settings = {name: getattr(self, name) for name in settings_of(strategy)}
        for name in settings.keys() & STRATEGIES.keys():
            settings[name] = self._filled(STRATEGIES[name][settings[name]])
        return strategy(**settings)

    def _used_settings(self, strategy: type) -> set[str]:
        """Those of the strategy, and of strategies that it uses."""
        names = settings_of(strategy)
        return names.union(
            *(self._used_settings(STRATEGIES[name][getattr(self, name)]) for name in names & STRATEGIES.keys())
        )

    def _idle_settings(self) -> list[str]:
        """What differs from its default, and belongs to a strategy that is not chosen."""
        idle = {"deep_update", "when_full"}.union(
            *(settings_of(strategy) for strategies in STRATEGIES.values() for strategy in strategies.values())
        )
        for strategy in (self.insertion_strategy(), self.deep_update_strategy(), self.when_full_strategy()):
            idle -= self._used_settings(type(strategy))
        if self.enable_sensory:
            idle.remove("deep_update")
        if self.enable_working and self.enable_long_term:
            idle.remove("when_full")
        elif self.enable_working:
            idle.difference_update(PUBLISHED_LONG_TERM)
        return [field.name for field in fields(self) if field.name in idle and self._differs(field.name)]

    def _choices(self, idle: list[str]) -> list[str]:
        """The fields because of which others are idle: switches that are off, strategies that are not the default."""
        names = ("enable_sensory", "enable_working", "enable_long_term", *STRATEGIES)
        return [name for name in names if self._differs(name) and name not in idle] or list(STRATEGIES)

    def _values(self, names: list[str]) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    def _differs(self, name: str) -> bool:
        return getattr(self, name) != getattr(type(self), name)


def settings_of(strategy: type) -> set[str]:
    """The fields of `InferenceConfig` that a strategy depends on."""
    return {field.name for field in fields(strategy)}
