"""The folder that keeps what a person makes: every step, what it replaced, and the label maps as they are now.

    workspace.sqlite   entries (`document.py`), all label maps that there were, and the history of steps
    masks/FRAME.png    the label maps as they are now, for other programs
    exports/           what was exported

A step is one transaction: it is on disk, whole, when the block that makes it ends. The files in masks/ follow within
moments, and are brought up to date when the workspace is opened again. A file there that this program did not write is
a label map that someone has made: it is taken over, as a step that can be undone.
"""

import hashlib
import json
import logging
import sqlite3
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dataset.frames import list_images, size_text
from dataset.label_map import MASK_SUFFIXES, encode_label_map, objects_of, pixels_of_labels, read_label_map
from dataset.random_access import FrameAccess
from dataset.soft_masks import FrameProbabilities
from interactive.document import (
    MOST_OBJECTS,
    Document,
    Entry,
    FrameLabelMap,
    Key,
    VideoObject,
    from_json,
    to_json,
)
from util.errors import UserError
from util.files import atomic_path, remove_leftovers, sole_user
from util.painting import davis_palette, display_palette

FORMAT = "xmem-workspace-1"
DATABASE, MASKS, EXPORTS, REPLACED = "workspace.sqlite", "masks", "exports", "replaced"
CACHED_MAPS = 32
SECONDS_UNTIL_RETRY = 10

TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS maps (id INTEGER PRIMARY KEY AUTOINCREMENT, png BLOB NOT NULL, areas TEXT NOT NULL,
    soft BLOB);
CREATE TABLE IF NOT EXISTS steps (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, undone INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS changes (
    step INTEGER NOT NULL, key TEXT NOT NULL, before TEXT, after TEXT, PRIMARY KEY (step, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS changes_of_key ON changes (key);
CREATE TABLE IF NOT EXISTS files (frame INTEGER PRIMARY KEY, size INTEGER, mtime INTEGER);
CREATE TABLE IF NOT EXISTS written (content TEXT PRIMARY KEY) WITHOUT ROWID;
"""
"""`written` has the digests of all files that were ever to be written to masks/, `files` what is there now."""

TO_UNDO = "SELECT id, name FROM steps WHERE undone = 0 ORDER BY id DESC LIMIT 1"
TO_REDO = "SELECT id, name FROM steps WHERE undone = 1 ORDER BY id LIMIT 1"

UNUSED_MAPS = """
DELETE FROM maps WHERE id NOT IN (
    SELECT json_extract(value, '$.map') FROM entries WHERE key LIKE 'frame %' AND json_extract(value, '$.map') > 0
    UNION SELECT json_extract(value, '$.start') FROM entries
        WHERE key LIKE 'prompts %' AND json_extract(value, '$.start') > 0
    UNION SELECT json_extract(before, '$.map') FROM changes WHERE json_extract(before, '$.map') > 0
    UNION SELECT json_extract(after, '$.map') FROM changes WHERE json_extract(after, '$.map') > 0
    UNION SELECT json_extract(before, '$.start') FROM changes WHERE json_extract(before, '$.start') > 0
    UNION SELECT json_extract(after, '$.start') FROM changes WHERE json_extract(after, '$.start') > 0)
"""

logger = logging.getLogger(__name__)


class History(NamedTuple):
    """The names of the steps that `undo` and `redo` would take, and the number of steps done."""

    undo: str | None
    redo: str | None
    done: int


class SoftMasks(FrameProbabilities):
    """Probabilities of a frame at the size at which it was followed, as the workspace keeps them."""

    def without(self, labels: Collection[int]) -> "SoftMasks":
        """Return those of the other objects alone."""
        kept = [index for index, label in enumerate(self.objects) if label not in labels]
        return SoftMasks(self.prob[[0, *(1 + index for index in kept)]], [self.objects[index] for index in kept])

    def pack(self) -> bytes:
        """Return them as bytes."""
        head = json.dumps({"objects": self.objects, "shape": self.prob.shape}).encode()
        return len(head).to_bytes(4, "little") + head + zlib.compress(self.prob.tobytes(), 1)

    @classmethod
    def unpack(cls, packed: bytes) -> "SoftMasks":
        """Return the soft masks that `pack` has written."""
        end = 4 + int.from_bytes(packed[:4], "little")
        head = json.loads(packed[4:end])
        return cls(np.frombuffer(zlib.decompress(packed[end:]), np.uint8).reshape(head["shape"]), head["objects"])


class Step:
    """A step while it is made: nothing of it counts before the block that makes it has ended."""

    def __init__(self, database: sqlite3.Connection, document: Document) -> None:
        self._database, self._document = database, document
        self.number: int | None = None
        """The step's number in the history, once it has one."""
        self.changed: dict[Key, Entry | None] = {}
        self.areas: dict[int, dict[int, int]] = {}
        """The pixels of each object in the maps that it has added."""

    def add_map(self, labels: UInt8[np.ndarray, "height width"], soft: SoftMasks | None = None) -> int:
        """Keep a label map, and return its number."""
        areas = {label: pixels for label, pixels in pixels_of_labels(labels).items() if label}
        row = (encode_label_map(labels, davis_palette()), json.dumps(areas), soft and soft.pack())
        number = self._database.execute("INSERT INTO maps (png, areas, soft) VALUES (?, ?, ?)", row).lastrowid
        assert number is not None
        self.areas[number] = areas
        return number

    def get(self, key: Key) -> Entry | None:
        """Return an entry as this step has left it."""
        return self.changed[key] if key in self.changed else self._document.get(key)

    def set(self, key: Key, entry: Entry | None) -> None:
        """Replace an entry; None removes it."""
        if self.get(key) != entry:
            self.changed[key] = entry


class Workspace:
    """One folder; one process at a time has it. Its methods may be called from any thread.

    Args:
        folder: is made if it is not there.
        video: whose masks it keeps.

    Raises:
        UserError: another process has it, it cannot be written to, or it belongs to another video.
    """

    def __init__(self, folder: Path, video: FrameAccess) -> None:
        self.folder, self._size, self._name_of = folder, video.size, video.name_of
        self._numbers = {video.name_of(number): number for number in range(video.count)}
        self._lock = RLock()
        self._areas: dict[int, dict[int, int]] = {}
        self._decoded = lru_cache(CACHED_MAPS)(self._decode)
        self._stale: set[int] = set()
        self._unknown: dict[int, Path] = {}
        self._files: dict[int, tuple[int, int]] = {}  # size and time of those in masks/ that this program has written
        self._closing, self._wake = Event(), Event()
        self.report: Callable[[str], None] = logger.warning
        """Told in a line what goes wrong in the background."""
        with ExitStack() as opened, _explained(folder):
            for part in (folder, folder / MASKS, folder / EXPORTS):
                part.mkdir(parents=True, exist_ok=True)
            opened.enter_context(sole_user(folder))
            for name in (MASKS, EXPORTS):
                remove_leftovers(folder / name)
            self._database = sqlite3.connect(folder / DATABASE, check_same_thread=False, isolation_level=None)
            opened.callback(self._database.close)
            self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + TABLES)
            self.notes = self._check(video)
            self._database.execute(UNUSED_MAPS)
            self.document = Document(self._entries())
            rows = self._database.execute("SELECT id, areas FROM maps")
            self._areas = {number: _areas_of(areas) for number, areas in rows}
            self.notes += self._take_over_files()
            self._opened = opened.pop_all()
        self._writer = Thread(target=self._keep_files, name="masks", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Bring the files up to date, and leave the folder to others."""
        self._closing.set()
        self._wake.set()
        self._writer.join()
        self._opened.close()

    # --- Steps and their history --------------------------------------------------------------------------------------

    @contextmanager
    def step(self, name: str, extends: int | None = None) -> Iterator[Step]:
        """Make a step: what the block changes is on disk, whole, when it ends without an error, else nothing of it.

        Args:
            name: what a person has done, as shown beside "undo".
            extends: the number of a step that this one continues; it has to be the last one.

        Raises:
            UserError: the disk is full, or cannot be written to; nothing has changed.
        """
        with self._lock:
            frames: set[int] = set()
            with self._transaction():
                step = Step(self._database, self.document)
                step.number = extends
                yield step
                if step.changed:
                    step.number = self._record(step, name, extends)
                    frames = self._store(step.changed)
            self._apply(step.changed, frames, step.areas)

    def undo(self) -> str | None:
        """Take the last step back, and return its name; None: there is none."""
        return self._move(TO_UNDO, "before", 1)

    def redo(self) -> str | None:
        """Do the step again that was last taken back, and return its name; None: there is none."""
        return self._move(TO_REDO, "after", 0)

    def history(self) -> History:
        """Return what can be undone and done again."""
        with self._lock:
            undo, redo = (self._database.execute(query).fetchone() for query in (TO_UNDO, TO_REDO))
            (done,) = self._database.execute("SELECT count(*) FROM steps WHERE undone = 0").fetchone()
        return History(undo and undo[1], redo and redo[1], done)

    def next_label(self) -> int | None:
        """Return the least label that no object has, or has had in a step that can be undone; None: all are used."""
        with self._lock:
            rows = self._database.execute(
                "SELECT key FROM entries WHERE key LIKE 'object %' UNION SELECT key FROM changes "
                "WHERE key LIKE 'object %' AND step IN (SELECT id FROM steps WHERE undone = 0)"
            ).fetchall()
        used = {Key.parse(key).first for (key,) in rows}
        return next((label for label in range(1, MOST_OBJECTS + 1) if label not in used), None)

    def last_step(self) -> int | None:
        """Return the number of the last step that is not undone."""
        with self._lock:
            (number,) = self._database.execute("SELECT max(id) FROM steps WHERE undone = 0").fetchone()
        return number

    def add_object(self, step: Step, label: int, name: str | None = None) -> None:
        """Make an object of a label, as a part of a step; masks of a removed one that had it are not brought back."""
        step.set(Key("object", label), new_object(label, name))
        for number, frame in self.document.frames.items():
            if label in self.areas(frame.map):
                labels = self.stored_labels(frame.map)
                cleared = step.add_map(np.where(labels == label, np.uint8(0), labels))
                objects = tuple(each for each in frame.objects if each != label)
                step.set(Key("frame", number), replace(frame, map=cleared, objects=objects))
                self.end_clicks(step, [number])

    def end_clicks(self, step: Step, frames: Collection[int], but: int | None = None) -> None:
        """End the clicks in some frames, whose masks are others now; those on one object go on."""
        for number, label in self.document.prompts:
            if number in frames and label != but:
                step.set(Key("prompts", number, label), None)

    def _forget_undone(self) -> None:
        self._database.execute("DELETE FROM changes WHERE step IN (SELECT id FROM steps WHERE undone = 1)")
        self._database.execute("DELETE FROM steps WHERE undone = 1")

    def _record(self, step: Step, name: str, extends: int | None) -> int:
        self._forget_undone()
        number = extends
        if number is None:
            number = self._database.execute("INSERT INTO steps (name) VALUES (?)", (name,)).lastrowid
            assert number is not None
        rows = [
            (number, str(key), to_json(self.document.get(key)), to_json(entry)) for key, entry in step.changed.items()
        ]
        self._database.executemany(
            "INSERT INTO changes VALUES (?, ?, ?, ?) ON CONFLICT (step, key) DO UPDATE SET after = excluded.after", rows
        )
        return number

    def _move(self, query: str, side: str, undone: int) -> str | None:
        with self._lock:
            with self._transaction():
                found = self._database.execute(query).fetchone()
                if found is None:
                    return None
                number, name = found
                rows = self._database.execute(f"SELECT key, {side} FROM changes WHERE step = ?", (number,)).fetchall()
                changed = {(key := Key.parse(text)): from_json(key, value) for text, value in rows}
                frames = self._store(changed)
                self._database.execute("UPDATE steps SET undone = ? WHERE id = ?", (undone, number))
            self._apply(changed, frames, {})
        return str(name)

    def _store(self, changed: Mapping[Key, Entry | None]) -> set[int]:
        """Write entries to the database; return the frames whose files look different from now on."""
        removed = [(str(key),) for key, entry in changed.items() if entry is None]
        kept = [(str(key), to_json(entry)) for key, entry in changed.items() if entry is not None]
        self._database.executemany("DELETE FROM entries WHERE key = ?", removed)
        self._database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", kept)
        # So that the files are written when the workspace is opened again, if the program ends before it has done so.
        frames = self._frames_changed(changed)
        self._database.executemany("DELETE FROM files WHERE frame = ?", [(number,) for number in frames])
        return frames

    def _frames_changed(self, changed: Mapping[Key, Entry | None]) -> set[int]:
        """Return the frames whose files look different when these entries replace those of the document."""
        frames = {key.first for key in changed if key.kind == "frame"}
        for key, entry in changed.items():
            if key.kind == "object" and (entry is None) != (self.document.get(key) is None):  # it comes or goes
                shown = self.document.frames.items()
                frames |= {number for number, frame in shown if key.first in self.areas(frame.map)}
        return frames

    def _apply(
        self, changed: Mapping[Key, Entry | None], frames: set[int], areas: Mapping[int, dict[int, int]]
    ) -> None:
        """Make the document what is on disk, and have the files of these frames written anew."""
        self._areas.update(areas)
        self._stale |= frames
        for key, entry in changed.items():
            self.document.set(key, entry)
        self._wake.set()

    # --- Label maps ---------------------------------------------------------------------------------------------------

    def labels(self, number: int | None) -> UInt8[np.ndarray, "height width"]:
        """Return a label map by its number, without objects that were removed; None: nothing but background.

        Raises:
            UserError: there is no such map.
        """
        if number is None:
            return np.zeros(self._size, np.uint8)
        labels, removed = self.stored_labels(number), self._removed(number)
        return np.where(np.isin(labels, removed), np.uint8(0), labels) if removed else labels.copy()

    def _removed(self, number: int) -> list[int]:
        """Return the labels in a map whose objects were removed."""
        return [label for label in self.areas(number) if self.document.get(Key("object", label)) is None]

    def areas(self, number: int | None) -> dict[int, int]:
        """Return the pixels of each label in a map."""
        return {} if number is None else self._areas.get(number, {})

    def soft(self, number: int) -> SoftMasks | None:
        """Return the soft masks of a map that following has made."""
        with self._lock:
            row = self._database.execute("SELECT soft FROM maps WHERE id = ?", (number,)).fetchone()
        return SoftMasks.unpack(row[0]) if row and row[0] else None

    def maps_before(self, frames: Collection[int]) -> dict[int, int]:
        """Return the map that each of these frames had before the last step that has changed it, where it had one."""
        query = (
            "SELECT json_extract(before, '$.map') FROM changes JOIN steps ON steps.id = step "
            "WHERE key = ? AND undone = 0 ORDER BY step DESC LIMIT 1"
        )
        with self._lock:
            found = {
                number: self._database.execute(query, (str(Key("frame", number)),)).fetchone() for number in frames
            }
        return {number: row[0] for number, row in found.items() if row is not None and row[0] is not None}

    def stored_labels(self, number: int) -> UInt8[np.ndarray, "height width"]:
        """Return a label map as it was stored, with objects that were removed since; not to be written to.

        Raises:
            UserError: there is no such map.
        """
        with self._lock:
            return self._decoded(number)

    def _decode(self, number: int) -> UInt8[np.ndarray, "height width"]:
        return np.array(Image.open(BytesIO(self._png(number))))

    def _png(self, number: int) -> bytes:
        if number not in self._areas:
            raise UserError(f"there is no label map {number} (any more)")
        with self._lock:
            row = self._database.execute("SELECT png FROM maps WHERE id = ?", (number,)).fetchone()
        return bytes(row[0])

    # --- What the page remembers --------------------------------------------------------------------------------------

    def view(self) -> str:
        """Return what `store_view` was last given; {} in a new workspace."""
        with self._lock:
            row = self._database.execute("SELECT value FROM about WHERE name = 'view'").fetchone()
        return row[0] if row else "{}"

    def store_view(self, view: str) -> None:
        """Keep the state of the page (JSON), which is no step: it cannot be undone."""
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO about VALUES ('view', ?)", (view,))

    # --- Files --------------------------------------------------------------------------------------------------------

    def _keep_files(self) -> None:
        """Write the files of changed frames, until the workspace is closed."""
        while not (self._closing.is_set() and not self._stale):
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                stale, self._stale = self._stale, set()
            is_last = self._closing.is_set()  # before the attempt: one that begins after closing is the last
            try:
                self._write_files(stale)
            except (UserError, OSError, sqlite3.Error) as error:
                self.report(f"the files in {self.folder / MASKS} are not up to date: {error}")
                with self._lock:
                    self._stale |= stale
                if is_last:
                    return  # they are written when the workspace is opened again
                self._closing.wait(SECONDS_UNTIL_RETRY)
                self._wake.set()
            if self._closing.is_set():
                self._wake.set()

    def _write_files(self, frames: Collection[int]) -> None:
        for start in range(0, len(frames), 64):
            some = sorted(frames)[start : start + 64]
            contents = {number: self._content(number) for number in some}
            with self._transaction():  # before the files: one of an unknown content is taken for somebody else's
                self._note_written(_digest(content) for content in contents.values() if content)
            for number, content in contents.items():
                self._files[number] = self._replace(number, content)
            with self._transaction():
                rows = [(number, *self._files[number]) for number in contents if number not in self._stale]
                self._database.executemany("INSERT OR REPLACE INTO files (frame, size, mtime) VALUES (?, ?, ?)", rows)

    def _note_written(self, digests: Iterable[str]) -> None:
        self._database.executemany("INSERT OR IGNORE INTO written VALUES (?)", [(digest,) for digest in digests])

    def _content(self, number: int) -> bytes | None:
        frame = self.document.frame(number)
        if frame is None:
            return None
        if self._removed(frame.map):
            return encode_label_map(self.labels(frame.map), davis_palette())
        return self._png(frame.map)

    def _replace(self, number: int, content: bytes | None) -> tuple[int, int]:
        """Write or remove a frame's file; return its size and time."""
        path = self.folder / MASKS / f"{self._name_of(number)}.png"
        if (unknown := self._unknown.pop(number, None)) is not None:
            self._set_aside(unknown)
        if not self._is_ours(number, path):
            self.report(f"{path} was changed by another program: it moves to {REPLACED}/, since its frame has changed")
            self._set_aside(path)
        if content is None:
            path.unlink(missing_ok=True)
            return 0, 0
        if not (path.is_file() and path.read_bytes() == content):
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        return len(content), path.stat().st_mtime_ns

    def _is_ours(self, number: int, path: Path) -> bool:
        """Return whether a frame's file, if it is there, is one that this program has written."""
        try:
            stat = path.stat()
        except FileNotFoundError:
            return True
        if self._files.get(number) == (stat.st_size, stat.st_mtime_ns):
            return True
        digest = _digest(path.read_bytes())
        with self._lock:
            return self._database.execute("SELECT 1 FROM written WHERE content = ?", (digest,)).fetchone() is not None

    def _set_aside(self, path: Path) -> None:
        folder = self.folder / REPLACED
        folder.mkdir(exist_ok=True)
        names = (f"{path.stem}{f'_{number}' if number else ''}{path.suffix}" for number in range(10**6))
        path.replace(next(target for name in names if not (target := folder / name).exists()))

    def _take_over_files(self) -> list[str]:
        """Compare masks/ with the entries: old files are written anew, those of somebody else are taken over."""
        notes: list[str] = []
        self._files = {
            row[0]: (row[1], row[2]) for row in self._database.execute("SELECT frame, size, mtime FROM files")
        }
        taken: dict[int, UInt8[np.ndarray, "height width"]] = {}
        digests: list[str] = []
        for name, path in list_images(self.folder / MASKS, MASK_SUFFIXES).items():
            number = self._numbers.get(name)
            if number is None:
                notes.append(f"{MASKS}/{path.name} belongs to no frame of this video: it is left alone")
                continue
            stat = path.stat()
            if self._files.get(number) == (stat.st_size, stat.st_mtime_ns):
                continue
            if self._is_ours(number, path):
                self._stale.add(number)
                continue
            self._unknown[number] = path  # so it is set aside, not overwritten
            try:
                labels = read_label_map(path).labels
                if labels.shape != self._size:
                    raise UserError(f"{path} is {size_text(labels.shape)}, its frame {size_text(self._size)}")
                taken[number] = labels
                if path.suffix == ".png":  # as good as written by this program, now that its content is kept
                    del self._unknown[number]
                    digests.append(_digest(path.read_bytes()))
            except UserError as error:
                notes.append(f"{error}: it is not used; where a mask replaces it, it moves to {REPLACED}/")
        self._stale |= {
            number
            for number, frame in self.document.frames.items()
            if not (self.folder / MASKS / f"{self._name_of(number)}.png").is_file()
        }
        if taken:
            self._take(taken, digests)
            notes.append(f"{len(taken)} label maps in {MASKS}/ were made by another program: they are taken over")
        return notes

    def _take(self, taken: Mapping[int, UInt8[np.ndarray, "height width"]], digests: Collection[str]) -> None:
        with self.step("Label maps of another program") as step:
            self._note_written(digests)  # with the maps or not at all: else they would be overwritten
            for number, labels in taken.items():
                present = objects_of(labels)
                for label in present:
                    if step.get(Key("object", label)) is None:
                        self.add_object(step, label)
                step.set(Key("frame", number), FrameLabelMap(step.add_map(labels), objects=tuple(present)))
            self.end_clicks(step, taken)

    # --- The database -------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, _explained(self.folder):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _check(self, video: FrameAccess) -> list[str]:
        """Check that the workspace is one of this video, or make it so if it is new; return what there is to say.

        Raises:
            UserError: it is not.
        """
        about = dict(self._database.execute("SELECT name, value FROM about"))
        mine = {"format": FORMAT, "size": size_text(self._size), "frames": str(len(self._numbers))}
        for name, value in mine.items():
            if about.get(name, value) != value:
                raise UserError(
                    f"{self.folder} belongs to another video ({name} {about[name]}, here {value}): name another folder "
                    "with --workspace"
                )
        mine["fingerprint"] = video.fingerprint
        self._database.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", list(mine.items()))
        if about.get("fingerprint", video.fingerprint) == video.fingerprint:
            return []
        return [f"{self.folder} was made with another video of this size and length: look whether its masks fit"]

    def _entries(self) -> Iterator[tuple[Key, Any]]:
        for text, value in self._database.execute("SELECT key, value FROM entries"):
            key = Key.parse(text)
            yield key, from_json(key, value)


def new_object(label: int, name: str | None = None) -> VideoObject:
    """Return an object with the colour that its label has in overlays."""
    red, green, blue = display_palette()[3 * label : 3 * label + 3]
    return VideoObject(name or f"Object {label}", f"#{red:02x}{green:02x}{blue:02x}")


def _areas_of(areas: str) -> dict[int, int]:
    return {int(label): pixels for label, pixels in json.loads(areas).items()}


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what the disk or the database has against writing into a UserError."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        remedy = "make room on the disk" if "full" in str(error) else "look at the disk"
        raise UserError(
            f"{folder} cannot be written: {error}; nothing was lost, and nothing changed: {remedy}"
        ) from error
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}; nothing was lost") from error
