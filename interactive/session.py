"""What a person does with a video: every edit is a step that is kept, can be undone, and is told to all listeners.

It knows nothing of a page or a server. Methods may be called from any thread; edits pause following first.
"""

import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Lock, RLock, Thread
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8

from dataset.frames import size_text
from dataset.label_map import objects_of, read_label_map
from dataset.random_access import FrameAccess
from inference.images import PUBLISHED_SIZE
from interactive.document import (
    MARKS,
    MOST_OBJECTS,
    SETTING_NOTES,
    SETTINGS,
    Document,
    FrameLabelMap,
    Key,
    Marks,
    MemorySettings,
    Prompts,
    VideoObject,
    share_changed,
)
from interactive.drawing import (
    Coordinate,
    Point,
    Rectangle,
    cleaned,
    erased,
    painted,
    polygon_region,
    rectangle_region,
    replaced,
    stroke_region,
    with_locked,
)
from interactive.following import FollowedFrame, Follower, GivenFrame, MemoryGauge, Plan
from interactive.segmenters.interface import Box, Click, Segmenter
from interactive.workspace import Step, Workspace
from model.network import XMem
from util.device import is_out_of_memory
from util.errors import SettingError, UserError, first_few

Direction = Literal["forward", "backward", "both"]
Until = Literal["step", "halfway", "annotated", "mark", "end"]
"""Where following ends: after one frame; halfway to the next annotated frame, from which the other half may be
followed; just before that frame; at the next mark; at the end of the video, also without such a frame or mark."""

SHORTEST, LONGEST, FRAMES_PER_COMMIT = 0.25, 1.0, 12
"""Seconds until followed frames are kept and shown: SHORTEST where FRAMES_PER_COMMIT have come, else LONGEST.

Whoever looks on from the same machine takes time from the network: on two cores a fifth at four times a second."""
RATE_SECONDS = 3.0
"""Length of the time over which the speed of following is measured."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far following has come."""

    frame: int
    done: int
    total: int
    direction: str
    fps: float | None
    """Frames per second of late; None: not known yet."""

    @property
    def left(self) -> float | None:
        """The seconds that are left."""
        return (self.total - self.done) / self.fps if self.fps else None


@dataclass(frozen=True)
class Followed:
    """What following has done when it was last on its way: frames, and the seconds until their masks were kept."""

    frames: int
    seconds: float


@dataclass(frozen=True)
class Notice:
    """Something to tell a person, in plain words."""

    level: Literal["warning", "error"]
    text: str


@dataclass(frozen=True)
class Change:
    """What has changed: entries, and other parts of the session by name."""

    keys: frozenset[Key] = frozenset()
    parts: frozenset[str] = frozenset()
    notice: Notice | None = None


class Session:
    """A video, the workspace in which its masks are kept, and the network that follows them.

    Args:
        video: the video.
        workspace: its workspace.
        network: None: masks are made by hand and by clicks alone.
        segmenters: by name, what opens the segmenters that can be chosen; the first one is taken until another is.
        size: the shorter side at which frames are followed, unless a person has set it.
        worker: the one thread that computes with networks, where they were loaded in one: OpenMP keeps a team for each
            thread that it was used in, and is a fifth slower where there are more of them than cores.
    """

    def __init__(
        self,
        video: FrameAccess,
        workspace: Workspace,
        network: XMem | None = None,
        segmenters: Mapping[str, Callable[[], Segmenter]] | None = None,
        size: int = PUBLISHED_SIZE,
        worker: ThreadPoolExecutor | None = None,
    ) -> None:
        self.video, self.workspace, self.segmenters = video, workspace, segmenters or {}
        self.segmenter_name = next(iter(self.segmenters), None)
        self._segmenter: Segmenter | None = None
        self._follower = Follower(network, video) if network is not None else None
        self._size = size
        self._lock, self._telling = RLock(), Lock()
        self._listeners: list[Callable[[Change], object]] = []
        self._worker = worker or ThreadPoolExecutor(1, thread_name_prefix="network")
        self._following: Future[None] | None = None
        self._pause = Event()
        self.progress: Progress | None = None
        self.followed: Followed | None = None
        self.gauge = self._follower.gauge if self._follower else MemoryGauge()
        self.unreadable: set[int] = set()
        self.version = 0
        """The number of changes so far."""
        workspace.report = self._report

    @property
    def document(self) -> Document:
        """The entries that there are now."""
        return self.workspace.document

    @property
    def settings(self) -> MemorySettings:
        """The settings of the memory."""
        stored = self.document.get(SETTINGS)
        return stored if isinstance(stored, MemorySettings) else MemorySettings(size=self._size)

    def listen(self, listener: Callable[[Change], object]) -> Callable[[], None]:
        """Have a function called after every change, from the thread that made it; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _report(self, text: str) -> None:
        """Tell what goes wrong in the background, also where no page listens."""
        logger.warning("%s", text)
        self.tell(Change(notice=Notice("error", text)))

    def tell(self, change: Change) -> None:
        """Tell a change to all that listen."""
        with self._telling:
            self.version += 1
        for listener in tuple(self._listeners):
            try:
                listener(change)
            except Exception:  # what was done is done, whoever cannot be told
                logger.exception("a listener has failed")

    def close(self) -> None:
        """Pause, and leave the workspace."""
        self.pause()
        self._worker.shutdown()
        self.workspace.close()

    def read_frame(self, number: int) -> UInt8[np.ndarray, "height width 3"]:
        """Return a frame.

        Raises:
            UserError: there is none with this number, or it cannot be decoded.
        """
        self._require_frame(number)
        try:
            return self.video.read(number)
        except UserError:
            self._mark_unreadable(number)
            raise

    # --- Objects ------------------------------------------------------------------------------------------------------

    def add_object(self, name: str | None = None) -> int:
        """Add an object, and return its label.

        Raises:
            UserError: all labels are used.
        """
        with self._editing("Add an object") as step:
            label = self.workspace.next_label()
            if label is None:
                raise UserError(f"all {MOST_OBJECTS} labels of a label map are used, by objects or in the history")
            self.workspace.add_object(step, label, name and _plain(name))
        return label

    def remove_object(self, label: int) -> None:
        """Remove an object, with its masks in all frames."""
        removed = self.document.require_object(label)
        with self._editing(f"Remove {removed.name}") as step:
            step.set(Key("object", label), None)
            for frame, of in self.document.prompts:
                if of == label:
                    step.set(Key("prompts", frame, label), None)

    def rename_object(self, label: int, name: str) -> None:
        """Rename an object."""
        self._change_object(f"Rename object {label}", label, lambda each: replace(each, name=_plain(name)))

    def colour_object(self, label: int, colour: str) -> None:
        """Give an object another colour, #rrggbb.

        Raises:
            UserError: it is written otherwise.
        """
        if not re.fullmatch("#[0-9a-f]{6}", colour):
            raise UserError(f"{colour!r} is no colour: write #rrggbb, with digits and small letters")
        self._change_object("Another colour", label, lambda each: replace(each, colour=colour))

    def hide_object(self, label: int, hidden: bool) -> None:
        """Hide an object, or show it: its masks stay."""
        self._change_object("Hide" if hidden else "Show", label, lambda each: replace(each, hidden=hidden))

    def lock_object(self, label: int, locked: bool) -> None:
        """Lock an object, so that neither hands nor following change it, or unlock it."""
        self._change_object("Lock" if locked else "Unlock", label, lambda each: replace(each, locked=locked))

    def _change_object(self, name: str, label: int, change: Callable[[VideoObject], VideoObject]) -> None:
        with self._editing(name) as step:
            step.set(Key("object", label), change(self.document.require_object(label)))

    # --- Masks by hand ------------------------------------------------------------------------------------------------

    def stroke(self, frame: int, label: int, points: Sequence[Point], radius: Coordinate, erase: bool = False) -> None:
        """Draw with a brush, or erase an object with it."""
        region = stroke_region(points, radius, self.video.size)
        self._draw("Erase" if erase else "Brush", frame, label, region, erase)

    def polygon(self, frame: int, label: int, points: Sequence[Point], erase: bool = False) -> None:
        """Fill a polygon, or erase an object in it."""
        self._draw("Polygon", frame, label, polygon_region(points, self.video.size), erase)

    def rectangle(self, frame: int, label: int, box: Rectangle, erase: bool = False) -> None:
        """Fill a rectangle, or erase an object in it."""
        self._draw("Rectangle", frame, label, rectangle_region(box, self.video.size), erase)

    def clean(self, frame: int, label: int, operation: str, pixels: int = 0) -> None:
        """Clean an object's mask up, as `drawing.cleaned`."""
        name = operation.replace("_", " ").capitalize()

        def clean(
            labels: UInt8[np.ndarray, "height width"], locked: Collection[int]
        ) -> UInt8[np.ndarray, "height width"]:
            return replaced(labels, cleaned(labels == label, operation, pixels), label, locked)

        self._edit(name, frame, label, clean)

    def clear(self, frame: int, label: int | None = None) -> None:
        """Annotate a frame as not showing an object, or, with `label` None, any that is not locked."""
        with self._paused():
            locked = self._locked()
            labels = [each for each in self.document.objects if each not in locked] if label is None else [label]
            self._edit("Clear", frame, label, lambda old, _: np.where(np.isin(old, labels), np.uint8(0), old), labels)

    def copy(self, frame: int, source: int, label: int | None = None) -> None:
        """Copy an object's mask from the frame `source`, or, with `label` None, those of all that are not locked."""
        self._require_frame(source)
        with self._paused():
            if label is not None:
                self._require_unlocked(label)
            other, locked = self.labels(source), self._locked()
            present = [each for each in objects_of(other) if each not in locked and label in (None, each)]
            if not present:
                which = "masks of unlocked objects" if label is None else "mask of this object"
                raise UserError(f"frame {source} has no {which} to copy")

            def copied(
                labels: UInt8[np.ndarray, "height width"], _: Collection[int]
            ) -> UInt8[np.ndarray, "height width"]:
                for each in present:
                    labels = replaced(labels, other == each, each, locked)
                return labels

            self._edit(f"Copy from frame {source}", frame, label, copied, present)

    def import_label_map(self, frame: int, path: Path) -> None:
        """Take a frame's label map from a file; objects that it has more are added.

        Raises:
            UserError: it cannot be read, or has another size than the frame.
        """
        self._require_frame(frame)
        given = read_label_map(path).labels
        if given.shape != self.video.size:
            raise UserError(
                f"the label map is {size_text(given.shape)}, but the frame {size_text(self.video.size)}: export it "
                "again at the frame's size"
            )
        present = objects_of(given)
        with self._editing(f"Import into frame {frame}") as step:
            for label in present:
                if step.get(Key("object", label)) is None:
                    self.workspace.add_object(step, label)
            labels = with_locked(given, self.labels(frame), self._locked())
            self._set_labels(step, frame, labels, [*present, *self.document.objects])

    def _draw(self, name: str, frame: int, label: int, region: Bool[np.ndarray, "height width"], erase: bool) -> None:
        self._edit(
            name,
            frame,
            label,
            lambda old, locked: erased(old, region, label) if erase else painted(old, region, label, locked),
        )

    def _edit(
        self,
        name: str,
        frame: int,
        label: int | None,
        change: Callable[[UInt8[np.ndarray, "height width"], Collection[int]], UInt8[np.ndarray, "height width"]],
        defined: Collection[int] = (),
    ) -> None:
        self._require_frame(frame)
        with self._editing(f"{name}, frame {frame}") as step:
            if label is not None:
                self._require_unlocked(label)
                defined = [*defined, label]
            labels = change(self.labels(frame), self._locked())
            self._set_labels(step, frame, labels, defined)

    def _set_labels(
        self,
        step: Step,
        frame: int,
        labels: UInt8[np.ndarray, "height width"],
        defined: Collection[int],
        prompts_of: int | None = None,
    ) -> None:
        """Make a label map a frame's annotation, which ends the clicks on it, but for those of one object."""
        old = self.document.frame(frame)
        objects = {*defined, *(old.objects if old and old.annotated else ())}
        objects |= self.workspace.areas(old.map if old else None).keys() | set(objects_of(labels))
        known = {key for key in objects if step.get(Key("object", key)) is not None}
        permanent = old.permanent if old is not None and old.annotated else True
        entry = FrameLabelMap(step.add_map(labels), True, permanent, tuple(sorted(known)))
        step.set(Key("frame", frame), entry)
        self.workspace.end_clicks(step, [frame], but=prompts_of)

    # --- Masks by clicks ----------------------------------------------------------------------------------------------

    def click(self, frame: int, label: int, x: Coordinate, y: Coordinate, positive: bool) -> None:
        """Say that an object is at a place, or is not."""
        with self._paused():
            old = self.document.prompts.get((frame, label))
            points = (*(old.points if old else ()), (float(x), float(y), positive))
            self._segment("Click", frame, label, points, old.box if old else None)

    def box(self, frame: int, label: int, box: Rectangle) -> None:
        """Say that an object is within a box."""
        height, width = self.video.size
        x0, x1 = np.clip(sorted((box[0], box[2])), 0, width).tolist()
        y0, y1 = np.clip(sorted((box[1], box[3])), 0, height).tolist()
        if x1 - x0 < 2 or y1 - y0 < 2:
            raise UserError("the box is too small: draw it around the object")
        with self._paused():
            old = self.document.prompts.get((frame, label))
            self._segment("Box", frame, label, old.points if old else (), (float(x0), float(y0), float(x1), float(y1)))

    def use_segmenter(self, name: str) -> None:
        """Have clicks turned into masks by another segmenter.

        Raises:
            UserError: there is no such segmenter, or it cannot be opened.
        """
        if name not in self.segmenters:
            raise UserError(f"there is no segmenter {name} here, but {', '.join(self.segmenters) or 'none'}")
        with self._paused():  # or it would wait for the worker, and everything else for it, until following ends
            self._segmenter = self._worker.submit(self.segmenters[name]).result()
            self.segmenter_name = name
        self.tell(Change(parts=frozenset({"segmenter"})))

    def _segment(
        self, name: str, frame: int, label: int, points: tuple[tuple[float, float, bool], ...], box: Box | None
    ) -> None:
        if self.segmenter_name is None:
            raise UserError("there is nothing here that turns clicks into masks: use brush or polygon")
        if self._segmenter is None:
            self.use_segmenter(self.segmenter_name)
        rgb = self.read_frame(frame)
        height, width = self.video.size
        if any(not (0 <= x < width and 0 <= y < height) for x, y, _ in points):
            raise UserError("the click is outside the picture")
        with self._paused():
            self._require_unlocked(label)
            entry, old = self.document.frame(frame), self.document.prompts.get((frame, label))
            start = old.start if old else (entry.map if entry else None)
            labels = self.workspace.labels(start)
            previous = labels == label
            clicks = [Click(x - 0.5, y - 0.5, positive) for x, y, positive in points]  # whole numbers are middles there
            assert self._segmenter is not None
            before = previous if previous.any() else None
            mask = self._worker.submit(self._segmenter.segment, rgb, clicks, box, before).result()
            labels = replaced(labels, mask, label, self._locked())
            with self._editing(f"{name}, frame {frame}") as step:
                step.set(Key("prompts", frame, label), Prompts(points, box, start))
                self._set_labels(step, frame, labels, [label], prompts_of=label)

    # --- Frames -------------------------------------------------------------------------------------------------------

    def labels(self, frame: int) -> UInt8[np.ndarray, "height width"]:
        """Return a frame's label map as it is now."""
        entry = self.document.frame(frame)
        return self.workspace.labels(entry.map if entry else None)

    def confirm(self, frame: int) -> None:
        """Say that a frame's masks are right, and that objects without one are not to be seen."""
        with self._editing(f"Confirm frame {frame}") as step:
            entry = self._require_masks(frame)
            objects = tuple(self.document.objects)
            step.set(Key("frame", frame), replace(entry, annotated=True, permanent=True, objects=objects))

    def unannotate(self, frame: int) -> None:
        """Take an annotation back: the masks stay, but following may replace them."""
        with self._editing(f"Frame {frame} no longer annotated") as step:
            entry = self._require_masks(frame)
            step.set(Key("frame", frame), replace(entry, annotated=False, permanent=False, objects=()))
            self.workspace.end_clicks(step, [frame])

    def set_permanent(self, frame: int, permanent: bool) -> None:
        """Take an annotated frame into permanent memory, or out of it."""
        name = f"Frame {frame} {'into' if permanent else 'out of'} permanent memory"
        with self._editing(name) as step:
            entry = self._require_masks(frame)
            if permanent and not entry.annotated:
                raise UserError(f"the masks of frame {frame} were followed: confirm them first")
            step.set(Key("frame", frame), replace(entry, permanent=permanent))

    def mark(self, frame: int, marked: bool) -> None:
        """Mark a frame, to be found again, or remove its mark."""
        self._require_frame(frame)
        with self._editing(f"{'Mark' if marked else 'Unmark'} frame {frame}") as step:
            marks = set(self.document.marks) | {frame} if marked else set(self.document.marks) - {frame}
            step.set(MARKS, Marks(tuple(sorted(marks))))

    def erase_followed(self, first: int, last: int) -> None:
        """Remove the masks that following has made in a range of frames, the last included."""
        with self._editing(f"Remove what was followed in frames {first} to {last}") as step:
            for number, entry in self.document.frames.items():
                if first <= number <= last and not entry.annotated:
                    step.set(Key("frame", number), None)
                    self.workspace.end_clicks(step, [number])

    def change_settings(self, **changes: int) -> None:
        """Change settings of the memory, by the names of `MemorySettings`.

        Raises:
            UserError: there is no such setting, or a value is out of its range.
        """
        if unknown := changes.keys() - {note.name for note in SETTING_NOTES}:
            raise UserError(f"there is no setting {min(unknown)}")
        settings = replace(self.settings, **changes)
        try:
            settings.inference()
        except SettingError as error:
            raise UserError(str(error)) from None
        for note in SETTING_NOTES:
            if not note.least <= (value := getattr(settings, note.name)) <= note.most:
                raise UserError(f"{note.label}: from {note.least} to {note.most}, not {value}")
        with self._editing("Settings") as step:
            step.set(SETTINGS, settings)

    # --- History ------------------------------------------------------------------------------------------------------

    def undo(self) -> str | None:
        """Take the last step back, and return its name."""
        return self._move(self.workspace.undo)

    def redo(self) -> str | None:
        """Do the step again that was last taken back, and return its name."""
        return self._move(self.workspace.redo)

    def _move(self, move: Callable[[], str | None]) -> str | None:
        with self._paused():
            name = move()
        if name is not None:
            self.tell(Change(parts=frozenset({"all"})))
        return name

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Nothing changes while the block runs, but what it changes itself."""
        with self._lock:
            self.pause()
            yield

    @contextmanager
    def _editing(self, name: str) -> Iterator[Step]:
        with self._paused(), self.workspace.step(name) as step:
            yield step
        self.tell(Change(frozenset(step.changed)))

    # --- Following ----------------------------------------------------------------------------------------------------

    @property
    def is_following(self) -> bool:
        """Whether the network is on its way."""
        following = self._following
        return following is not None and not following.done()

    def follow(self, frame: int, direction: Direction, until: Until = "annotated") -> None:
        """Send the network on its way from a frame; returns at once.

        Raises:
            UserError: there is no network, nothing to follow, or nowhere to go.
        """
        self._require_frame(frame)
        if self._follower is None:
            raise UserError("there is no network: following is not possible")
        with self._paused():
            directions = ["forward", "backward"] if direction == "both" else [direction]
            plans = [self._plan(frame, 1 if each == "forward" else -1, until) for each in directions]
            if not any(len(plan.frames) for plan in plans):
                raise UserError(f"there is no frame to follow {direction} from frame {frame}")
            if not self.document.frames:
                raise UserError("there is nothing to follow yet: mark an object in a frame first")
            self._pause.clear()
            self._following = self._worker.submit(self._run, plans, direction)

    def pause(self) -> None:
        """Stop following, and wait until what was followed is kept."""
        self._pause.set()  # at once: whoever has the lock may be waiting for the same
        with self._lock:
            self._pause.set()
            if self._following is not None:
                self._following.result()
                self._following = None

    def wait(self) -> None:
        """Wait until following has come to its end."""
        if (following := self._following) is not None:
            following.result()

    def clear_memory(self) -> None:
        """Forget all but the permanent frames."""
        with self._paused():
            if self._follower is not None:
                self._follower.forget()
                self.gauge = self._follower.gauge
        self.tell(Change(parts=frozenset({"memory"})))

    def save_memory(self, path: Path) -> list[int]:
        """Write the memory to a file for `InferenceCore.load_memory`, and return its objects.

        Raises:
            UserError: there is none, or it cannot be written.
        """
        with self._lock:
            if self._follower is None:
                raise UserError("there is no network, so there is no memory")
            if self.is_following:
                raise UserError("following is under way: pause it, and export the memory again")
            return self._follower.save_memory(str(path))

    def _plan(self, start: int, step: int, until: Until) -> Plan:
        frames = range(start + step, self.video.count if step > 0 else -1, step)
        if until == "step":
            frames = frames[:1]
        elif until in ("annotated", "halfway"):
            stops = [number for number in frames if (entry := self.document.frame(number)) and entry.annotated]
            if stops:
                between = frames.index(stops[0])
                frames = frames[: (between + (step > 0)) // 2 if until == "halfway" else between]
        elif until == "mark":
            stops = [number for number in frames if number in self.document.marks]
            frames = frames[: frames.index(stops[0]) + 1] if stops else frames
        return Plan(start, frames)

    def _run(self, plans: Sequence[Plan], direction: str) -> None:
        """Follow, in the worker's thread: another one keeps the masks."""
        assert self._follower is not None
        notice = None
        total = sum(len(plan.frames) for plan in plans)
        keeper = _Keeper(self, f"Follow {direction} from frame {plans[0].start}")
        begun, done = time.monotonic(), 0
        try:
            for plan in plans:
                if self._pause.is_set() or not plan.frames:
                    continue
                given = _Given(self)
                clock = _Clock()
                for followed in self._follower.follow(plan, given, self.settings, self.workspace.last_step()):
                    keeper.keep(followed, plan.step)
                    done += followed.number != plan.start
                    word = "forward" if plan.step > 0 else "backward"
                    self.progress = Progress(followed.number, done, total, word, clock.rate())
                    self.gauge = self._follower.gauge
                    if self._pause.is_set():
                        break
                keeper.flush()
                notice = self._not_followed(self._follower.objects)
                self._follower.stored(self.workspace.last_step())
        except (UserError, SettingError) as error:
            notice = Notice("error", str(error))
        except Exception as error:
            logger.exception("following has failed")
            remedy = "choose a smaller size in the settings" if is_out_of_memory(error) else "the log has more"
            notice = Notice("error", f"following has stopped: {error}; {remedy}")
        finally:
            notice = keeper.close() or notice
            self.progress, self.followed = None, Followed(done, time.monotonic() - begun)
            self.tell(Change(parts=frozenset({"following", "memory"}), notice=notice))

    def _not_followed(self, followed: Collection[int]) -> Notice | None:
        names = [each.name for label, each in self.document.objects.items() if label not in followed]
        if not names:
            return None
        reason = "there is no mask of it where following has begun, nor in a permanent frame"
        return Notice("warning", f"not followed: {first_few(names)}; {reason}")

    # --- Checks -------------------------------------------------------------------------------------------------------

    def _locked(self) -> set[int]:
        return {label for label, each in self.document.objects.items() if each.locked}

    def _require_unlocked(self, label: int) -> None:
        if self.document.require_object(label).locked:
            raise UserError(f"{self.document.require_object(label).name} is locked: unlock it first")

    def _require_frame(self, frame: int) -> None:
        if not 0 <= frame < self.video.count:
            raise UserError(f"there is no frame {frame}: the video has frames 0 to {self.video.count - 1}")

    def _require_masks(self, frame: int) -> FrameLabelMap:
        self._require_frame(frame)
        entry = self.document.frame(frame)
        if entry is None:
            raise UserError(f"frame {frame} has no masks yet")
        return entry

    def _mark_unreadable(self, number: int) -> None:
        if number not in self.unreadable:
            self.unreadable.add(number)
            self.tell(Change(parts=frozenset({"video"})))


def _plain(name: str) -> str:
    """Return an object's name without spaces around it.

    Raises:
        UserError: it is empty, or too long.
    """
    name = " ".join(name.split())
    if not 0 < len(name) <= 80:
        raise UserError("an object's name has between 1 and 80 characters")
    return name


class _Given:
    """The masks that there are when following starts."""

    def __init__(self, session: Session) -> None:
        self._session = session
        frames = session.document.frames
        self.permanent = tuple(number for number, entry in frames.items() if entry.permanent)

    def is_annotated(self, number: int) -> bool:
        entry = self._session.document.frame(number)
        return entry is not None and entry.annotated

    def masks(self, number: int) -> GivenFrame | None:
        entry = self._session.document.frame(number)
        if entry is None:
            return None
        labels = self._session.workspace.labels(entry.map)
        present = entry.objects if entry.annotated else objects_of(labels)
        objects = tuple(label for label in present if label in self._session.document.objects)
        return GivenFrame(labels, objects, entry.permanent)


class _Clock:
    """The speed of late."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def rate(self) -> float | None:
        """Count a frame, and return the frames per second."""
        now = time.monotonic()
        self._times = [each for each in self._times if now - each <= RATE_SECONDS] + [now]
        span = now - self._times[0]
        return (len(self._times) - 1) / span if span > 0 else None


class _Keeper:
    """Keeps followed frames in a thread of its own, several in a transaction: one step of the history for all."""

    def __init__(self, session: Session, name: str) -> None:
        self._session, self._name = session, name
        self._number: int | None = None
        self._queue: Queue[tuple[FollowedFrame, int] | None] = Queue(maxsize=16)  # None: store what has come, at once
        self._closing = False
        self._error: Notice | None = None
        self._thread = Thread(target=self._run, name="keep", daemon=True)
        self._thread.start()

    def keep(self, followed: FollowedFrame, step: int) -> None:
        """Have a frame kept, which comes after the frame `number − step`.

        Raises:
            UserError: an earlier one could not be kept.
        """
        if self._error is not None:
            raise UserError(self._error.text)
        self._queue.put((followed, step))

    def flush(self) -> None:
        """Wait until all frames are kept."""
        self._queue.put(None)
        self._queue.join()

    def close(self) -> Notice | None:
        """Wait until all frames are kept; return what went wrong."""
        self._closing = True
        self._queue.put(None)
        self._thread.join()
        return self._error

    def _run(self) -> None:
        while not self._closing or not self._queue.empty():
            waiting = [self._queue.get()]
            begun = time.monotonic()
            while waiting[-1] is not None and self._number is not None:  # the first one is kept at once
                wanted = SHORTEST if len(waiting) >= FRAMES_PER_COMMIT else LONGEST
                if (left := begun + wanted - time.monotonic()) <= 0:
                    break
                with suppress(Empty):
                    waiting.append(self._queue.get(timeout=left))
            try:
                if self._error is None:
                    self._store([each for each in waiting if each is not None])
            except UserError as error:
                self._error = Notice("error", str(error))
            except Exception as error:
                logger.exception("what was followed could not be kept")
                self._error = Notice("error", f"what was followed could not be kept: {error}; the log has more")
            finally:
                for _ in waiting:
                    self._queue.task_done()

    def _store(self, frames: Sequence[tuple[FollowedFrame, int]]) -> None:
        session = self._session
        locked = session._locked()
        newest: dict[int, UInt8[np.ndarray, "height width"]] = {}
        with session.workspace.step(self._name, self._number) as step:
            for followed, direction in frames:
                number, labels, soft = followed.number, followed.labels, followed.soft
                if followed.problem is not None:
                    session._mark_unreadable(number)
                if labels is None:
                    continue
                session.workspace.end_clicks(step, [number])
                if locked:
                    soft = soft and soft.without(locked)
                    labels = with_locked(labels, session.labels(number), locked)
                neighbour = newest.get(number - direction)
                if neighbour is None and session.document.frame(number - direction) is not None:
                    neighbour = session.labels(number - direction)
                change = None if neighbour is None else round(share_changed(neighbour, labels), 4)
                uncertainty = None if followed.uncertainty is None else round(followed.uncertainty, 4)
                entry = FrameLabelMap(step.add_map(labels, soft), change=change, uncertainty=uncertainty)
                step.set(Key("frame", number), entry)
                newest[number] = labels
        self._number = step.number
        session.tell(Change(frozenset(step.changed), frozenset({"following", "memory"})))
