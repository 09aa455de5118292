"""The example clip: it is whole, and shows what it promises."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from dataset.label_map import read_label_map
from tests.helpers import REPOSITORY
from util.painting import davis_palette

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture(scope="module")
def label_maps() -> list[np.ndarray]:
    """The committed label maps, in order."""
    paths = sorted((EXAMPLES / "crossing" / "Annotations" / "crossing").iterdir())
    return [read_label_map(path).labels for path in paths]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_frame_has_a_label_map_of_its_size():
    frames = sorted((EXAMPLES / "crossing" / "JPEGImages" / "crossing").iterdir())
    assert [path.name for path in frames] == [f"{index:05d}.jpg" for index in range(54)]
    for path in frames:
        annotation = read_label_map(EXAMPLES / "crossing" / "Annotations" / "crossing" / f"{path.stem}.png")
        assert annotation.palette == davis_palette()
        with Image.open(path) as image:
            assert image.size == annotation.labels.shape[::-1] == (432, 240)


def test_the_clip_is_small():
    assert sum(len(content) for content in files(EXAMPLES).values()) < 2_000_000


def test_both_objects_are_there_all_the_time(label_maps):
    assert all(np.unique(labels).tolist() == [0, 1, 2] for labels in label_maps)


def test_the_objects_meet_hide_and_part(label_maps):
    touching = [bool((binary_dilation(labels == 1) & (labels == 2)).any()) for labels in label_maps]
    assert not any(touching[:12] + touching[-8:])
    assert all(touching[20:34])
    seen = np.array([(labels == 2).sum() for labels in label_maps])
    assert seen.min() < 0.05 * seen[0]
    assert abs(seen.argmin() - 27) < 5
    assert seen[-1] > 0.7 * seen[0]


def test_the_objects_cross(label_maps):
    for label, direction in ((1, 1), (2, -1)):
        columns = [np.nonzero(labels == label)[1].mean() for labels in (label_maps[0], label_maps[-1])]
        assert direction * (columns[1] - columns[0]) > 200
