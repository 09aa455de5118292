"""A bar over the videos and frames of a whole run."""

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from tqdm import tqdm

from dataset.evaluation_sets import EvaluationVideo
from evaluation.sharing import Sharing

SECONDS_BETWEEN_LOOKS = 0.2


class Progress(AbstractContextManager):
    """What all processes have done, and earlier runs into the same folder before them; process 0 shows it."""

    def __init__(self, videos: Sequence[EvaluationVideo], pending: Sequence[str], sharing: Sharing) -> None:
        self._sharing = sharing
        self._frames = {video.name: video.frames.frame_count or 0 for video in videos}
        self._videos = len(videos)
        self._videos_before = len(videos) - len(pending)
        self._counted = 0  # frames of the video being segmented
        self._shown = 0  # frames of this run that the bar shows
        self._bar = tqdm(
            total=sum(self._frames.values()),
            initial=sum(self._frames.values()) - sum(self._frames[name] for name in pending),
            unit="frame",
            disable=sharing.rank != 0,
            mininterval=0.2 if sys.stderr.isatty() else 10,  # a log keeps every state of the bar
            dynamic_ncols=True,
        )

    def __exit__(self, *_: Any) -> None:
        self._bar.close()

    def frame_done(self, network_seconds: float) -> None:
        """One more frame of the video; `network_seconds` is what the network took for it so far."""
        self._counted += 1
        self._sharing.count("frames", 1)
        if network_seconds:
            self._bar.set_postfix_str(f"network {self._counted / network_seconds:.1f} FPS", refresh=False)
        self._show()

    def video_done(self, name: str) -> None:
        """The video's end. All its frames count then: skipped ones too, and those that a failure left."""
        self._sharing.count("videos", 1)
        self._sharing.count("frames", self._frames[name] - self._counted)
        self._counted = 0
        self._show()

    def until_all_finished(self) -> None:
        """Follow the other processes until they have done their shares."""
        while not self._sharing.all_finished():
            self._show()
            time.sleep(SECONDS_BETWEEN_LOOKS)
        self._show()

    def _show(self) -> None:
        videos, frames = (self._sharing.count(what, 0) for what in ("videos", "frames"))
        self._bar.set_description(f"{self._videos_before + videos}/{self._videos} videos", refresh=False)
        self._bar.update(frames - self._shown)
        self._shown = frames
