"""The session as the page knows it: its state as JSON, and what changes in it."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import UInt8

from interactive.document import SETTING_NOTES, FrameLabelMap, Key
from interactive.exports import Exports
from interactive.session import Change, Session

Json = dict[str, Any]

PARTS_OF_KEYS = {"object": "objects", "marks": "marks", "settings": "settings"}


class Messages:
    """Makes the messages that the page gets.

    Args:
        session: the session.
        exports: its exports.
        problem: why there is no network; None: there is one.
    """

    def __init__(self, session: Session, exports: Exports, problem: str | None) -> None:
        self._session, self._exports, self._problem = session, exports, problem

    def state(self) -> Json:
        """Return everything."""
        session = self._session
        version = session.version  # before the rest: what changes meanwhile is told again
        parts = {name: make() for name, make in self._parts().items()}
        frames = {str(number): frame for number, frame in self._frames(session.document.frames).items()}
        prompts = {f"{frame}/{label}": _prompts(each) for (frame, label), each in session.document.prompts.items()}
        view = json.loads(session.workspace.view())
        return {**parts, "version": version, "frames": frames, "clicks": prompts, "view": view}

    def patch(self, changes: Iterable[Change]) -> Json:
        """Return what these changes have changed."""
        version = self._session.version
        keys: set[Key] = set()
        parts: set[str] = set()
        for change in changes:
            keys |= change.keys
            parts |= change.parts
        if "all" in parts:
            patch = self.state()
            del patch["view"]
            return {**patch, "whole": True}
        parts |= {PARTS_OF_KEYS[key.kind] for key in keys if key.kind in PARTS_OF_KEYS}
        if keys:
            parts.add("history")
        if "following" in parts:
            parts.add("followed")
        makers = self._parts()
        patch = {"version": version, **{name: makers[name]() for name in parts}}
        if frames := {key.first for key in keys if key.kind == "frame"}:
            patch["memory"] = makers["memory"]()  # the list of permanent frames
            patch["frames"] = {str(number): frame for number, frame in self._frames(frames).items()}
        if prompts := [key for key in keys if key.kind == "prompts"]:
            known = self._session.document.prompts
            patch["clicks"] = {
                f"{key.first}/{key.second}": _prompts(known.get((key.first, key.second))) for key in prompts
            }
        return patch

    def _parts(self) -> Mapping[str, Any]:
        return {
            "video": self._video,
            "network": lambda: {"error": self._problem},
            "segmenter": lambda: {
                "name": self._session.segmenter_name, "names": list(self._session.segmenters)
            },
            "objects": lambda: [
                {"label": label, **asdict(each)} for label, each in self._session.document.objects.items()
            ],
            "marks": lambda: list(self._session.document.marks),
            "settings": lambda: asdict(self._session.settings),
            "setting_notes": lambda: [asdict(note) for note in SETTING_NOTES],
            "history": lambda: self._session.workspace.history()._asdict(),
            "following": self._following,
            "followed": lambda: None if self._session.followed is None else asdict(self._session.followed),
            "memory": self._memory,
            "exports": lambda: [asdict(export) for export in self._exports.listed()],
        }  # fmt: skip

    def _video(self) -> Json:
        video = self._session.video
        height, width = video.size
        return {
            "name": video.path.name,
            "path": str(video.path),
            "width": width,
            "height": height,
            "count": video.count,
            "rate": float(video.rate),
            "bad": sorted(self._session.unreadable),
            "warning": "; ".join([*([video.warning] if video.warning else []), *self._session.workspace.notes]) or None,
        }

    def _following(self) -> Json | None:
        progress = self._session.progress
        return None if progress is None else {**asdict(progress), "left": progress.left}

    def _memory(self) -> Json:
        frames = self._session.document.frames.items()
        permanent = [number for number, frame in frames if frame.permanent]
        return {**asdict(self._session.gauge), "permanent": permanent}

    def _frames(self, numbers: Collection[int]) -> dict[int, Json | None]:
        document, workspace = self._session.document, self._session.workspace
        before = workspace.maps_before(numbers)
        return {number: self._frame(document.frame(number), before.get(number)) for number in numbers}

    def _frame(self, frame: FrameLabelMap | None, before: int | None) -> Json | None:
        if frame is None:
            return None
        return {**asdict(frame), "before": before, "areas": self._session.workspace.areas(frame.map)}


def _prompts(prompts: Any) -> Json | None:
    return None if prompts is None else {"points": prompts.points, "box": prompts.box}


def encode_runs(labels: UInt8[np.ndarray, "height width"]) -> bytes:
    """Return a label map as runs of equal labels, row after row.

    Little endian: width, height and the number of runs as 32 bits each, the runs' labels as 8 bits each, and their
    lengths as 32 bits each.
    """
    flat = labels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    head = np.array([labels.shape[1], labels.shape[0], len(starts)], "<u4")
    return head.tobytes() + flat[starts].tobytes() + lengths.astype("<u4").tobytes()
