"""The demo: what it prints and leaves to look at, and the README's picture that is made from it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from evaluation import networks
from scripts import demo, make_readme_picture
from tests.helpers.tiny_network import save_tiny_network

SIZE = ["--size", "32"]


@pytest.fixture(scope="module", autouse=True)
def clip(tmp_path_factory) -> Iterator[None]:
    """For speed the clip is cut down to the moments that the contact sheet shows."""
    short = tmp_path_factory.mktemp("clip") / "crossing"
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        (short / kind / demo.VIDEO).mkdir(parents=True)
        for name in demo.MOMENTS:
            shutil.copy(demo.CLIP / kind / demo.VIDEO / f"{name}.{suffix}", short / kind / demo.VIDEO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "CLIP", short)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A network file; its weights are random too, but it is a file."""
    return save_tiny_network(tmp_path_factory.mktemp("saves") / "tiny.pth")


@pytest.fixture(scope="module")
def demonstration(model, tmp_path_factory) -> Path:
    """The folder of a whole demo with that file."""
    output = tmp_path_factory.mktemp("demo") / "out"
    assert demo.main(["--model", str(model), "--output", str(output), *SIZE]) == 0
    return output


@pytest.fixture
def captions(monkeypatch) -> list[str]:
    """The row captions of the contact sheets that are written."""
    seen: list[str] = []

    def spy(rows, *arguments):
        seen.extend(rows)
        return contact_sheet(rows, *arguments)

    contact_sheet = demo.contact_sheet
    monkeypatch.setattr(demo, "contact_sheet", spy)
    return seen


def test_it_leaves_a_video_of_the_whole_clip(demonstration):
    with av.open(str(demonstration / "Overlay/crossing.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == len(demo.MOMENTS)


def test_its_sheet_shows_input_truth_and_prediction_at_every_moment(demonstration, captions):
    demo.write_sheet(demonstration)
    assert captions == ["input", "ground truth", "prediction"]
    with Image.open(demonstration / demo.SHEET) as image:
        assert image.width > len(demo.MOMENTS) * 216
        assert image.height > 3 * 216 * 240 / 432


def test_the_sheet_paints_the_masks_of_the_run(demonstration):
    truth = list(demo.painted(demo.CLIP / "Annotations" / "crossing"))
    predicted = list(demo.painted(demonstration / "crossing"))
    differing = [np.mean(first != second) for first, second in zip(predicted, truth, strict=True)]
    assert differing[0] < 0.05  # the first mask is given, if coarsely at this size
    assert max(differing) > 0.05  # such a network loses the fish


def test_it_prints_the_score_of_the_clip_and_where_things_are(model, tmp_path, capsys):
    output = tmp_path / "out"
    assert demo.main(["--model", str(model), "--output", str(output), *SIZE]) == 0
    printed = capsys.readouterr().out
    scores = json.loads((output / "summary.json").read_text())["scores"]
    assert sorted(scores["sequences"]["crossing"]) == ["1", "2"]
    assert f"J&F {scores['global']['J&F']:.1f}" in printed
    for path in (output / "Overlay/crossing.mp4", output / demo.SHEET):
        assert str(path) in printed


def test_it_takes_the_network_that_eval_takes(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(networks, "REPOSITORY", tmp_path)
    monkeypatch.setattr(networks, "BUNDLED", model)
    assert demo.main(SIZE) == 0
    config = json.loads((tmp_path / demo.DEFAULT_OUTPUT / "config.json").read_text())
    assert config["weights"] == str(model)
    assert (tmp_path / demo.DEFAULT_OUTPUT / demo.SHEET).is_file()


def test_it_does_not_replace_another_run(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert demo.main([*SIZE, "--model", str(model)]) == 0
    config = tmp_path / demo.DEFAULT_OUTPUT / "config.json"
    config.write_text(config.read_text().replace(json.dumps(str(demo.CLIP)), '"/my/videos"'))
    before = config.read_text()
    assert demo.main([*SIZE, "--model", str(model)]) == 2
    assert "root: /my/videos before" in capsys.readouterr().err
    assert config.read_text() == before


def test_without_a_network_it_says_where_to_get_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(networks, "REPOSITORY", tmp_path)
    monkeypatch.setattr(networks, "BUNDLED", tmp_path / "none.pth")
    assert demo.main(SIZE) == 2
    assert "python -m scripts.download_models" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_demo_is_replaced_and_other_files_are_not(model, demonstration, tmp_path, capsys):
    """Other settings: eval.py by itself would refuse to mix the two."""
    flags = ["--model", str(model), "--size", "16"]
    assert demo.main([*flags, "--output", str(demonstration)]) == 0
    (tmp_path / "notes.txt").write_text("mine")
    assert demo.main([*flags, "--output", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_mistake_is_told_by_evals_exit_code(tmp_path, capsys):
    assert demo.main(["--model", str(tmp_path / "none.pth"), "--output", str(tmp_path / "out")]) == 2
    assert "none.pth" in capsys.readouterr().err


def test_the_readmes_picture_shows_the_masks_of_a_demo(demonstration, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_readme_picture, "TARGET", tmp_path / "picture.webp")
    monkeypatch.setattr(make_readme_picture, "MOMENTS", demo.MOMENTS[2:4])
    for label_maps in (demonstration / "crossing", demo.CLIP / "Annotations/crossing"):
        assert make_readme_picture.main(["--label_maps", str(label_maps)]) == 0
        first, second = demo.painted(label_maps, demo.MOMENTS[2:4])
        with Image.open(tmp_path / "picture.webp") as image:
            picture = np.array(image.convert("RGBA"))
        width = first.shape[1]
        for painted, left in ((first, 0), (second, width + make_readme_picture.GAP)):
            shown = picture[:, left : left + width, :3].astype(int)
            assert np.abs(shown - painted).mean() < 6  # WebP is lossy; masks of another folder are further off
        assert (picture[:, width + 1 : width + make_readme_picture.GAP - 1, 3] == 0).all()
    assert make_readme_picture.main(["--label_maps", str(tmp_path)]) == 2
    assert "make demo" in capsys.readouterr().err


def test_a_contact_sheet_shows_every_image_in_its_place():
    def grey(value: int) -> np.ndarray:
        return np.full((240, 432, 3), value, np.uint8)

    sheet = demo.contact_sheet({"input": [grey(10), grey(20)], "prediction": [grey(30), grey(50)]}, ["00000", "00007"])
    found = {value: np.argwhere((sheet == value).all(axis=2)) for value in (10, 20, 30)}
    assert all(len(pixels) == 120 * 216 for pixels in found.values())
    first, second, below = (found[value].min(axis=0) for value in (10, 20, 30))
    assert first[0] == second[0] < below[0]
    assert first[1] == below[1] < second[1]
    # The captions are there: ink at the left of both rows and above both columns.
    dark = (sheet < 128).all(axis=2)
    assert dark[first[0] : first[0] + 120, : first[1]].any()
    assert dark[below[0] :, : first[1]].any()
    assert dark[: first[0], first[1] : second[1]].any()
    assert dark[: first[0], second[1] :].any()
