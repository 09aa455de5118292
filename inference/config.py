"""How a video is followed; the fields are named as eval.py's flags, the defaults are the published ones."""

from dataclasses import dataclass


@dataclass(frozen=True)
class InferenceConfig:
    """Settings of the per-frame loop and the memory stores.

    Raises:
        ValueError: a value out of its range, or two that contradict each other.
    """

    mem_every: int = 5
    """r: a frame enters working memory when this many frames have passed since the last one that did."""
    deep_update_every: int = -1
    """Frames between deep updates of the sensory memory, on memory frames only; −1: with every memory frame."""
    top_k: int | None = 30
    """Memory elements that take part in each query's softmax; None: all."""
    enable_long_term: bool = True
    """False: working memory grows without bound and nothing is consolidated."""
    max_mid_term_frames: int = 10
    """T_max: working memory is consolidated when it holds this many frames."""
    min_mid_term_frames: int = 5
    """T_min: frames that stay in working memory after a consolidation, the first one among them."""
    num_prototypes: int = 128
    """P: elements that one consolidation moves to long-term memory."""
    max_long_term_elements: int = 10000
    """LT_max: long-term memory evicts its least used elements so as not to exceed this."""

    def __post_init__(self) -> None:
        def require(condition: bool, complaint: str) -> None:
            if not condition:
                raise ValueError(complaint)

        require(self.mem_every >= 1, f"mem_every must be at least 1, not {self.mem_every}")
        require(
            self.deep_update_every != 0,
            "deep_update_every must be positive, or negative to go with every memory frame; 0 is neither",
        )
        require(self.top_k is None or self.top_k >= 1, f"top_k must be at least 1 (None: all), not {self.top_k}")
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
