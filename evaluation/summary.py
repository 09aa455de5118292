"""The figures of an evaluation: speed, memory, failures and scores."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluation.output_folder import VideoRecord
from scoring.scores import Scores
from util.errors import counted, first_few

MOST_LISTED = 10


@dataclass(frozen=True)
class Summary:
    """The figures of an evaluation, over all processes and over the earlier runs that it resumes.

    Attributes:
        records: the finished videos, by name.
        failures: why videos failed, by name.
        scores: J&F, where there is ground truth.
        peak_process_bytes: the largest peak of a process's memory.
        videos_seen: videos that were in the network's training.
        config: the settings.
        zip_file: what an evaluation server takes, where one was written.
        not_written: why summary and zip file could not be written.
    """

    records: dict[str, VideoRecord]
    failures: dict[str, str]
    scores: Scores | None
    peak_process_bytes: int
    videos_seen: list[str]
    config: dict[str, Any]
    zip_file: Path | None = None
    not_written: str | None = None

    @property
    def videos(self) -> int:
        """The number of finished videos."""
        return len(self.records)

    @property
    def frames(self) -> int:
        """The number of segmented frames of finished videos."""
        return sum(record.frames for record in self.records.values())

    @property
    def network_seconds(self) -> float:
        """The network's time, summed over videos."""
        return sum((record.network_seconds for record in self.records.values()), start=0.0)

    @property
    def wall_seconds(self) -> float:
        """The time from opening a video to having its last label map on the disk, summed over videos."""
        return sum((record.wall_seconds for record in self.records.values()), start=0.0)

    @property
    def fps(self) -> float | None:
        """Frames per second of the network alone, as the paper counts them."""
        return self.frames / self.network_seconds if self.network_seconds else None

    @property
    def end_to_end_fps(self) -> float | None:
        """Frames per second with reading and writing."""
        return self.frames / self.wall_seconds if self.wall_seconds else None

    @property
    def peak_device_bytes(self) -> int | None:
        """The largest peak of a CUDA device's memory."""
        return max((record.peak_device_bytes or 0 for record in self.records.values()), default=0) or None

    def to_json_dict(self) -> dict[str, Any]:
        """Return the content of summary.json."""
        return {
            "FPS": self.fps,
            "end_to_end_FPS": self.end_to_end_fps,
            "videos": self.videos,
            "frames": self.frames,
            "network_seconds": self.network_seconds,
            "wall_seconds": self.wall_seconds,
            "devices": sorted({record.device for record in self.records.values()}),
            "peak_process_bytes": self.peak_process_bytes,
            "peak_device_bytes": self.peak_device_bytes,
            "failures": self.failures,
            "scores": self.scores.to_json_dict() if self.scores else None,
            "videos_seen": self.videos_seen,
            "records": {name: asdict(record) for name, record in self.records.items()},
            "config": self.config,
        }

    def lines(self) -> list[str]:
        """Return the figures for people, one line each."""
        memory = f"process {self.peak_process_bytes / 2**20:.0f} MiB"
        if self.peak_device_bytes is not None:
            memory += f", device {self.peak_device_bytes / 2**20:.0f} MiB"
        fps = "nothing timed"
        if self.fps and self.end_to_end_fps:
            fps = f"{self.fps:.2f} FPS ({self.end_to_end_fps:.2f} with reading and writing)"
        named = {
            name: ", ".join(f"{label} is {meaning}" for label, meaning in record.names.items())
            for name, record in self.records.items()
            if record.names
        }
        lines = [f"objects of {name}: {meanings}" for name, meanings in list(named.items())[:MOST_LISTED]]
        if more := len(named) - len(lines):
            lines.append(f"objects of {more} more videos: see names in summary.json")
        what = "object" if self.config["separate_objects"] else "video"
        lines += [f"{counted(self.videos, what)}, {counted(self.frames, 'frame')}, {fps}; peak memory: {memory}"]
        if again := [name for name, record in self.records.items() if record.in_full_precision]:
            lines.append(f"done again in full precision, since activations overflowed: {first_few(again)}")
        if scores := self.scores:
            videos = {name.partition("/")[0] for name in (*self.records, *self.failures)}
            partly = f"  of {len(scores.sequences)} of {len(videos)} videos"
            partly = partly if scores.left_out or self.failures else ""
            lines.append(f"{scores.line()}{partly}")
        if not self.config["overlay"] and any(record.grey for record in self.records.values()):
            lines.append(
                "Label maps without a palette look black in viewers; overlay shows them painted over the frames"
            )
        return lines
