"""G, and J and F of seen and unseen categories, on label maps made by hand."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from dataset.evaluation_sets import youtube_vos_truth
from scoring.protocols import PROTOCOLS
from util.errors import UserError

SIZE = (24, 40)


def rectangles(**columns: tuple[int, int]) -> np.ndarray:
    """A label map: label → from which column to which."""
    labels = np.zeros(SIZE, np.uint8)
    for name, (left, right) in columns.items():
        labels[4:20, left:right] = int(name.removeprefix("label_"))
    return labels


def write(folder, frames: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for name, labels in frames.items():
        Image.fromarray(labels).save(folder / f"{name}.png")


@pytest.fixture
def root(tmp_path):
    """Object 1 (a seen owl) from frame 0 on, object 2 (an unseen yak) from frame 5 on."""
    objects = {
        "1": {"category": "owl", "frames": ["00000", "00005", "00010"]},
        "2": {"category": "yak", "frames": ["00005", "00010"]},
    }
    for part, content in ("valid", {"v": {"objects": objects}}), ("train", {"t": {"objects": {"1": objects["1"]}}}):
        (tmp_path / part).mkdir()
        (tmp_path / part / "meta.json").write_text(json.dumps({"videos": content}))
    both = rectangles(label_1=(2, 12), label_2=(20, 30))
    write(tmp_path / "valid/GroundTruth/v", {"00000": rectangles(label_1=(2, 12)), "00005": both, "00010": both})
    return tmp_path


def test_figures_by_hand(root, tmp_path):
    """Object 1 is half there in frame 5 and right in frame 10; object 2 counts in frame 10 alone, and is missing."""
    write(
        tmp_path / "prediction/v",
        {
            "00000": np.zeros(SIZE, np.uint8),  # given: it does not count
            "00005": rectangles(label_1=(2, 7)),
            "00010": rectangles(label_1=(2, 12)),
        },
    )
    figures = PROTOCOLS["youtube"].score(root, tmp_path / "prediction").figures
    assert figures["Js"] == pytest.approx(100 * (0.5 + 1) / 2)
    assert 50 < figures["Fs"] < 100
    assert figures["Ju"] == figures["Fu"] == 0
    assert figures["G"] == pytest.approx((figures["Js"] + figures["Fs"]) / 4)


def test_the_truth_scores_everything(root):
    assert set(PROTOCOLS["youtube"].score(root, root / "valid/GroundTruth").figures.values()) == {100}


def test_where_there_is_no_ground_truth(root, tmp_path):
    assert youtube_vos_truth(root, "val") == root
    assert youtube_vos_truth(root, "test") is None
    assert youtube_vos_truth(tmp_path / "elsewhere", "val") is None


def test_mistakes_are_named(root, tmp_path):
    protocol = PROTOCOLS["youtube"]
    write(tmp_path / "prediction/v", {"00005": rectangles(label_1=(2, 7))})
    with pytest.raises(UserError, match=r"prediction/v lacks 1 of 2 frames: 00010\.png"):
        protocol.score(root, tmp_path / "prediction")
    (root / "train/meta.json").write_text(
        '{"videos": {"other": {"objects": {"1": {"category": "other", "frames": []}}}}}'
    )
    scores = protocol.score(root, root / "valid/GroundTruth")
    assert math.isnan(scores.figures["G"])
    assert scores.figures["Ju"] == 100
    assert "G –" in scores.line()
    (root / "train/meta.json").unlink()
    with pytest.raises(UserError, match=r"meta\.json does not exist"):
        protocol.score(root, root / "valid/GroundTruth")
