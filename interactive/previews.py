"""Small pictures of all frames, for scrubbing and thumbnails: of a video file they are made once and kept."""

from pathlib import Path
from threading import Event, Thread

import cv2
import numpy as np
from jaxtyping import UInt8

from dataset.random_access import VideoAccess
from interactive.session import Session
from util.errors import UserError
from util.files import atomic_path, remove_leftovers

FOLDER = "previews"
LONGER_SIDE = 640
SECONDS_WHILE_BUSY = 0.5


class Previews:
    """The previews of a session's video; a thread makes them ahead, while nothing else needs the machine.

    Args:
        session: whose workspace keeps them. Those of a video file are made ahead; the images of a folder are read as
            fast as previews.
    """

    def __init__(self, session: Session) -> None:
        self._session, self._video = session, session.video
        # A workspace may be opened with another video of the same size and length.
        self._folder = session.workspace.folder / FOLDER / session.video.fingerprint[:12]
        self._closing = Event()
        self._thread: Thread | None = None
        if isinstance(self._video, VideoAccess):
            self._folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self._folder)
            self._thread = Thread(target=self._make, args=(self._video,), name="previews", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop making previews; those that are missing are made the next time."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def get(self, number: int) -> bytes:
        """Return the preview of a frame as JPEG.

        Raises:
            UserError: the frame cannot be decoded, or there is none with this number.
        """
        path = self._path(number)
        return path.read_bytes() if path.is_file() else jpeg(self._session.read_frame(number), LONGER_SIDE)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.jpg"

    def _make(self, video: VideoAccess) -> None:
        missing = [number for number in range(video.count) if not self._path(number).is_file()]
        if not missing:
            return
        waiting = set(missing)
        try:
            for number, rgb in video.small_frames(missing[0], LONGER_SIDE):
                while self._session.is_following and not self._closing.wait(SECONDS_WHILE_BUSY):
                    pass
                if self._closing.is_set():
                    return
                if number in waiting:
                    with atomic_path(self._path(number)) as temporary:
                        temporary.write_bytes(jpeg(rgb, LONGER_SIDE))
        except (OSError, UserError):
            return  # `get` tells of damaged frames, and previews are no reason to fill a disk


def jpeg(rgb: UInt8[np.ndarray, "height width 3"], longer_side: int | None = None) -> bytes:
    """Return a picture as JPEG, its longer side at most so many pixels."""
    height, width = rgb.shape[:2]
    factor = min(1.0, (longer_side or max(height, width)) / max(height, width))
    if factor < 1:
        size = max(1, round(width * factor)), max(1, round(height * factor))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    quality = 80 if longer_side == LONGER_SIDE else 90
    done, content = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "an 8-bit RGB image is encoded"
    return content.tobytes()
