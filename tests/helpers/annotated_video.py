"""A small video of two squares that move, and sessions in which they are annotated."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dataset.random_access import FolderAccess
from interactive.document import Document, Key
from interactive.segmenters.interface import Box, Click
from interactive.session import Session
from interactive.workspace import Workspace
from model.network import XMem
from tests.helpers.tiny_network import tiny_network

SIZE = (48, 64)
COUNT = 12
SETTINGS = {"mem_every": 2, "min_mid_term_frames": 2, "max_mid_term_frames": 4, "num_prototypes": 8, "size": 32}


def ground_truth(number: int) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[8:20, 4 + 3 * number : 16 + 3 * number] = 1
    labels[28:42, 40 - 2 * number : 56 - 2 * number] = 2
    return labels


def picture(number: int) -> np.ndarray:
    noise = np.random.default_rng(number).integers(0, 40, (*SIZE, 3))
    colours = np.array([[90, 90, 90], [210, 60, 50], [60, 190, 210]])
    return (colours[ground_truth(number)] + noise).clip(0, 255).astype(np.uint8)


def write_video(folder: Path, count: int = COUNT, backward: bool = False) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(picture(count - 1 - number if backward else number)).save(folder / f"{number:05d}.png")
    return folder


class Squares:
    """A segmenter for tests: squares of 9 pixels around the clicks, the box, and what was there before."""

    def segment(
        self,
        rgb: np.ndarray,
        clicks: Sequence[Click],
        box: Box | None = None,
        previous: np.ndarray | None = None,
    ) -> np.ndarray:
        mask = np.zeros(rgb.shape[:2], bool) if previous is None else previous.copy()
        if box is not None:
            x0, y0, x1, y1 = map(round, box)
            mask[y0:y1, x0:x1] = True
        for click in clicks:
            x, y = int(click.x + 0.5), int(click.y + 0.5)
            mask[max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5] = click.positive
        return mask


def open_session(video: Path, folder: Path, network: XMem | None = None) -> Session:
    frames = FolderAccess(video)
    workspace = Workspace(folder, frames)
    return Session(frames, workspace, network, {"squares": Squares})


def new_session(folder: Path, count: int = COUNT, backward: bool = False, network: bool = True) -> Session:
    """A session of a new video in a new workspace, with the settings above and two objects that are nowhere yet."""
    video = write_video(folder / "video", count, backward)
    session = open_session(video, folder / "workspace", tiny_network().for_inference() if network else None)
    session.change_settings(**SETTINGS)
    for _ in range(2):
        session.add_object()
    return session


def annotate(session: Session, number: int, truth: int | None = None, labels: Sequence[int] = (1, 2)) -> None:
    """Draw the squares of a frame, or those of another one, by polygons."""
    for label in labels:
        rows, columns = np.nonzero(ground_truth(number if truth is None else truth) == label)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        session.rectangle(number, label, tuple(map(float, box)))


def entries(document: Document) -> dict[Key, object]:
    """Everything that can be undone."""
    return {
        **{Key("object", label): each for label, each in document.objects.items()},
        **{Key("frame", number): each for number, each in document.frames.items()},
        **{Key("prompts", *numbers): each for numbers, each in document.prompts.items()},
        Key("marks"): document.marks,
    }


def picture_of(session: Session) -> dict[int, bytes]:
    """The label maps of all frames as they are now."""
    return {number: session.labels(number).tobytes() for number in range(session.video.count)}
