"""What a person makes of a video, as entries by key: objects, masks of frames, clicks, marks and settings.

Every entry is a small frozen dataclass that is written as JSON. A step of the history is a set of entries before and
after, so whatever is an entry can be undone (`workspace.py`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from inference.config import InferenceConfig
from inference.images import PUBLISHED_SIZE, SMALLEST_SIZE
from inference.strategies.consolidation import Consolidation
from inference.strategies.insertion import RegularInsertion
from model.memory_reading import TOP_K
from util.errors import UserError

MOST_OBJECTS = 255


@dataclass(frozen=True)
class VideoObject:
    """An object: its label is in its key. A locked one is changed neither by hand nor by following."""

    name: str
    colour: str
    """#rrggbb."""
    hidden: bool = False
    locked: bool = False


@dataclass(frozen=True)
class FrameLabelMap:
    """The label map of a frame.

    Attributes:
        map: the map's number in the workspace.
        annotated: a person has made or confirmed it. Following never replaces it.
        permanent: when following, it is part of the permanent memory.
        objects: of an annotated frame the labels that the map defines: one without a pixel is not to be seen here.
        change: what share of the objects' pixels following has changed from the neighbouring frame, 0 to 1.
        uncertainty: of the least certain object, 0 to 1, where following has made the map.
    """

    map: int
    annotated: bool = False
    permanent: bool = False
    objects: tuple[int, ...] = ()
    change: float | None = None
    uncertainty: float | None = None


@dataclass(frozen=True)
class Prompts:
    """The clicks and the box by which an object's mask in a frame was made, and the map that they began with."""

    points: tuple[tuple[float, float, bool], ...] = ()
    """x, y in pixels, and whether the object is there."""
    box: tuple[float, float, float, float] | None = None
    """x0, y0, x1, y1."""
    start: int | None = None


@dataclass(frozen=True)
class Marks:
    """Frames that a person wants to find again; following may stop there."""

    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class MemorySettings:
    """The settings of the memory, with the published defaults, and the size at which frames are segmented.

    Raises:
        SettingError: a value out of its range, when `inference` is called.
    """

    mem_every: int = RegularInsertion.mem_every
    min_mid_term_frames: int = Consolidation.min_mid_term_frames
    max_mid_term_frames: int = Consolidation.max_mid_term_frames
    num_prototypes: int = Consolidation.num_prototypes
    max_long_term_elements: int = Consolidation.max_long_term_elements
    top_k: int = TOP_K
    size: int = PUBLISHED_SIZE

    def inference(self) -> InferenceConfig:
        """Return the configuration of inference."""
        settings = asdict(self)
        del settings["size"]
        return InferenceConfig.from_settings(**settings)


@dataclass(frozen=True)
class SettingNote:
    """How a setting is shown to a person."""

    name: str
    label: str
    note: str
    least: int
    most: int


SETTING_NOTES = (
    SettingNote("mem_every", "Frames between stored ones (r)", "Smaller: follows fast changes; slower.", 1, 1000),
    SettingNote("min_mid_term_frames", "Frames kept in full (T_min)", "The latest stored frames stay.", 1, 99),
    SettingNote("max_mid_term_frames", "Frames until consolidation (T_max)", "Then older ones are condensed.", 2, 100),
    SettingNote("num_prototypes", "Prototypes at a time (P)", "More: finer long-term memory.", 1, 10000),
    SettingNote("max_long_term_elements", "Long-term memory (LT_max)", "The least used is evicted.", 1, 10**6),
    SettingNote("top_k", "Elements read for each place (top-k)", "Fewer: sharper, and more easily misled.", 1, 10000),
    SettingNote("size", "Shorter side in pixels", "Frames are followed at it; smaller is faster.", SMALLEST_SIZE, 4320),
)  # fmt: skip

Entry = VideoObject | FrameLabelMap | Prompts | Marks | MemorySettings

KINDS: Mapping[str, type[Any]] = {
    "object": VideoObject,
    "frame": FrameLabelMap,
    "prompts": Prompts,
    "marks": Marks,
    "settings": MemorySettings,
}


@dataclass(frozen=True, order=True)
class Key:
    """Which entry: object LABEL, frame NUMBER, prompts NUMBER LABEL, marks or settings."""

    kind: str
    first: int = 0
    second: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.first} {self.second}"

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Return the key that `str` has made this text of."""
        kind, first, second = text.split()
        return cls(kind, int(first), int(second))


MARKS, SETTINGS = Key("marks"), Key("settings")


def to_json(entry: Entry | None) -> str | None:
    """Return an entry as JSON."""
    return None if entry is None else json.dumps(asdict(entry), separators=(",", ":"))


def from_json(key: Key, text: str | None) -> Entry | None:
    """Return the entry that `to_json` has written."""
    if text is None:
        return None
    kind = KINDS[key.kind]
    known = {each.name for each in fields(kind)}
    values = {name: _frozen(value) for name, value in json.loads(text).items() if name in known}
    return kind(**values)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


class Document:
    """The entries that there are now."""

    def __init__(self, entries: Iterable[tuple[Key, Entry]] = ()) -> None:
        self._by_kind: dict[str, dict[Key, Any]] = {kind: {} for kind in KINDS}
        for key, entry in entries:
            self.set(key, entry)

    def get(self, key: Key) -> Entry | None:
        """Return an entry; None: there is none."""
        entry: Entry | None = self._by_kind[key.kind].get(key)
        return entry

    def set(self, key: Key, entry: Entry | None) -> None:
        """Replace an entry; None removes it."""
        if entry is None:
            self._by_kind[key.kind].pop(key, None)
        else:
            self._by_kind[key.kind][key] = entry

    @property
    def objects(self) -> dict[int, VideoObject]:
        """The objects by label, in ascending order."""
        return {key.first: entry for key, entry in sorted(self._by_kind["object"].items())}

    @property
    def frames(self) -> dict[int, FrameLabelMap]:
        """The frames that have a map, by number, in ascending order."""
        return {key.first: entry for key, entry in sorted(self._by_kind["frame"].items())}

    @property
    def prompts(self) -> dict[tuple[int, int], Prompts]:
        """Clicks and boxes by frame and label."""
        return {(key.first, key.second): entry for key, entry in sorted(self._by_kind["prompts"].items())}

    @property
    def marks(self) -> tuple[int, ...]:
        """The marked frames, in ascending order."""
        entry = self.get(MARKS)
        return entry.frames if isinstance(entry, Marks) else ()

    def frame(self, number: int) -> FrameLabelMap | None:
        """Return the entry of a frame, if it has one."""
        entry = self.get(Key("frame", number))
        return entry if isinstance(entry, FrameLabelMap) else None

    def require_object(self, label: int) -> VideoObject:
        """Return an object.

        Raises:
            UserError: there is none with this label.
        """
        entry = self.get(Key("object", label))
        if not isinstance(entry, VideoObject):
            raise UserError(f"there is no object {label} (any more): choose another one")
        return entry


def share_changed(before: UInt8[np.ndarray, "height width"], after: UInt8[np.ndarray, "height width"]) -> float:
    """Return what share of the objects' pixels in either of two label maps is different in them, 0 to 1."""
    either: Bool[np.ndarray, "height width"] = (before > 0) | (after > 0)
    count = np.count_nonzero(either)
    return float(np.count_nonzero((before != after) & either) / count) if count else 0.0
