"""One variant on one data set: its exact configuration, where its results lie, and what is recorded of them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.config import EvaluationConfig
from evaluation.evaluate import Summary
from inference.config import InferenceConfig, settings_of
from reproduction.data_sets import DataSet
from reproduction.variants import Variant


@dataclass(frozen=True)
class Run:
    """What is done once, in however many tables it appears.

    Attributes:
        offset: of the memory insertion.
        full_precision: also where mixed precision is usual.
    """

    variant: Variant
    data_set: DataSet
    offset: int = 0
    full_precision: bool = False

    @property
    def folder(self) -> str:
        """Where its results lie, below the folder of all runs; different runs have different ones."""
        offset = f"_offset_{self.offset}" if self.offset else ""
        precision = "_full_precision" if self.full_precision else ""
        return f"{self.data_set.name}/{self.variant.name}{offset}{precision}"

    def inference(self) -> InferenceConfig:
        """The data set's settings as far as they have an effect on this variant, and the variant's own."""
        own = dict(self.variant.inference)
        base = self.data_set.inference | ({"mem_offset": self.offset} if self.offset else {})
        if self.variant.same_compression:
            own["num_prototypes"] = scaled_prototypes(effective(base, {}), effective(base, own))
        return effective(base, own)

    def evaluation(
        self, root: Path, weights: Path, sha256: str, mixed: bool, scales: tuple[float, ...]
    ) -> EvaluationConfig:
        """All that decides what it writes.

        Args:
            mixed: whether mixed precision is usual.
            scales: those of variants with several sizes; the first is 1.
        """
        data_set, variant = self.data_set, self.variant
        sizes = [round(scale * data_set.size) for scale in (scales if variant.several_sizes else (1.0,))]
        return EvaluationConfig(
            dataset=data_set.layout,
            root=root,
            split=data_set.split,
            weights=weights,
            weights_sha256=sha256,
            repeat=data_set.repeat,
            size=sizes[0],
            other_sizes=tuple(sizes[1:]),
            flip_too=variant.flip_too,
            mixed_precision=mixed and not self.full_precision,
            inference=self.inference(),
        )


def effective(base: Mapping[str, Any], own: Mapping[str, Any]) -> InferenceConfig:
    """`own`, and of `base` what the strategies that `own` chooses depend on."""
    chosen = InferenceConfig(**own)
    strategies = (chosen.insertion_strategy(), chosen.deep_update_strategy(), chosen.when_full_strategy())
    used = set().union(*(settings_of(type(strategy)) for strategy in strategies))
    return InferenceConfig(**{name: value for name, value in base.items() if name in used} | dict(own))


def scaled_prototypes(default: InferenceConfig, other: InferenceConfig) -> int:
    """P with which `other`'s consolidations compress as much as those of `default` would with the P of `other`."""
    return max(round(other.num_prototypes * consolidated_frames(other) / consolidated_frames(default)), 1)


def consolidated_frames(config: InferenceConfig) -> int:
    """How many frames leave working memory in a consolidation: T_max − T_min."""
    return config.max_mid_term_frames - config.min_mid_term_frames


def compression_percent(config: InferenceConfig, elements_per_frame: int) -> float | None:
    """How many elements become one in a consolidation, in percent (section 4); None where there are none.

    Args:
        elements_per_frame: h·w.
    """
    if not (config.enable_working and config.enable_long_term and config.when_full == "consolidate"):
        return None
    return 100 * consolidated_frames(config) * elements_per_frame / config.num_prototypes


def evenly_spaced_offsets(every: int, count: int) -> list[int]:
    """Up to `count` offsets of the memory insertion, from 0 on, less than `every`."""
    return sorted({index * every // count for index in range(count)})


@dataclass(frozen=True)
class RunRecord:
    """What came out of a run, as kept beside its folder.

    Attributes:
        config: `EvaluationConfig` as JSON.
        scores: metric → percent; empty where a server scores.
        memory: video → `MemoryCounts` at its end.
        server_zip: for an evaluation server, below the output folder.
        seconds: of the whole run, reading, writing and scoring included, in the call that ended it.
        hardware: what it ran on.
        commit: of the program.
    """

    folder: str
    config: dict[str, Any]
    scores: dict[str, float]
    fps: float | None
    end_to_end_fps: float | None
    frames: int
    videos: int
    failures: dict[str, str]
    memory: dict[str, dict[str, int]]
    peak_device_bytes: int | None
    peak_process_bytes: int
    server_zip: str | None
    seconds: float
    hardware: str
    commit: str

    @property
    def inference(self) -> InferenceConfig:
        """The settings of the memory."""
        return InferenceConfig(**self.config["inference"])

    @property
    def compressions(self) -> list[float]:
        """In percent, of each video that anything was stored of."""
        sizes = [
            counts["working_elements"] // counts["working_frames"]
            for counts in self.memory.values()
            if counts["working_frames"]
        ]
        ratios = [compression_percent(self.inference, size) for size in sizes]
        return [ratio for ratio in ratios if ratio is not None]

    def is_of(self, config: EvaluationConfig, videos: Collection[str] | None) -> bool:
        """Whether the same settings would be used now, on the same videos (None: all that there are)."""
        same_videos = videos is None or set(videos) == self.memory.keys() | self.failures.keys()
        return same_videos and without_places(self.config) == without_places(as_json(config))


def recorded(
    run: Run,
    config: EvaluationConfig,
    summary: Summary,
    scores: dict[str, float],
    server_zip: str | None,
    seconds: float,
    hardware: str,
    commit: str,
) -> RunRecord:
    """What is kept of a run's summary."""
    return RunRecord(
        folder=run.folder,
        config=as_json(config),
        scores=scores,
        fps=summary.fps,
        end_to_end_fps=summary.end_to_end_fps,
        frames=summary.frames,
        videos=summary.videos,
        failures=summary.failures,
        memory={name: record.memory or {} for name, record in summary.records.items()},
        peak_device_bytes=summary.peak_device_bytes,
        peak_process_bytes=summary.peak_process_bytes,
        server_zip=server_zip,
        seconds=seconds,
        hardware=hardware,
        commit=commit,
    )


def as_json(config: EvaluationConfig) -> dict[str, Any]:
    """The configuration as it comes back from a file."""
    return json.loads(json.dumps(config.to_json_dict()))


def without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with names of folders and files, wherever they lie."""
    places = {name: Path(config[name]).name for name in ("root", "weights")}
    return dict(config) | places
