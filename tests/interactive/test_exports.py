"""What leaves the workspace is read again by readers of each format, and shows what the workspace holds."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from dataset.label_map import read_label_map
from dataset.mask_formats import read_masks
from dataset.registry import DATA_SETS
from dataset.soft_masks import read_probabilities
from dataset.video_file import VideoFile
from inference.inference_core import InferenceCore
from interactive.exports import Exports, Kind, _file_name, _kind_of
from interactive.session import Session
from tests.helpers.annotated_video import COUNT, SIZE, annotate, ground_truth, new_session, open_session, picture
from tests.helpers.tiny_network import tiny_network
from util.errors import UserError

FOLLOWED = range(1, 6)


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Session:
    """Frame 0 is annotated, frames 1 to 5 are followed, the others have no masks; object 1 is called fish."""
    session = new_session(tmp_path_factory.mktemp("exports"))
    annotate(session, 0)
    session.rename_object(1, "fish")
    session.mark(5, True)
    session.follow(0, "forward", "mark")
    session.wait()
    assert list(session.document.frames) == list(range(6))
    yield session
    session.close()


@pytest.fixture
def exports(session) -> Exports:
    exports = Exports(session)
    yield exports
    exports.close()


def export(exports: Exports, kind: Kind, **request) -> tuple[Path, tuple[str, ...]]:
    name = exports.start(kind, **request)
    exports.wait()
    (finished,) = [each for each in exports.listed() if each.name == name]
    assert finished.error is None
    assert finished.progress == 1
    assert finished.size > 0
    return exports._folder / name, finished.notes


def selected(session: Session, number: int, labels: tuple[int, ...] = (1, 2)) -> np.ndarray:
    return np.where(np.isin(session.labels(number), labels), session.labels(number), 0)


@pytest.mark.parametrize("kind", ["davis", "youtube"])
def test_label_maps_in_the_layouts_of_data_sets(session, exports, kind):
    folder, notes = export(exports, kind)
    masks = folder / ("Annotations/480p/video" if kind == "davis" else "Annotations/video")
    assert sorted(path.name for path in masks.iterdir()) == [f"{number:05d}.png" for number in range(6)]
    for number in range(6):
        assert (read_label_map(masks / f"{number:05d}.png").labels == session.labels(number)).all()
    assert "6 frames without masks left out" in notes
    # With the frames beside the label maps, it is a data set that evaluation opens.
    frames = folder / ("JPEGImages/480p" if kind == "davis" else "JPEGImages")
    frames.mkdir(parents=True)
    if kind == "davis":
        (frames / "video").symlink_to(session.video.path)
        data_set = DATA_SETS["D17"].open(folder, "val", [32])
        assert [video.name for video in data_set.videos] == ["video"]
    else:
        objects = json.loads((folder / "meta.json").read_text())["videos"]["video"]["objects"]
        assert objects["1"]["category"] == "fish"
        assert objects["2"]["frames"] == [f"{number:05d}" for number in range(6) if (session.labels(number) == 2).any()]


def test_chosen_objects_and_frames(session, exports):
    folder, notes = export(exports, "davis", objects=(2,), first=2, last=4)
    files = sorted((folder / "Annotations/480p/video").iterdir())
    assert [path.stem for path in files] == ["00002", "00003", "00004"]
    for path in files:
        assert (read_label_map(path).labels == selected(session, int(path.stem), (2,))).all()
    assert "left out" not in " ".join(notes)


def test_a_mask_file_for_each_object(session, exports):
    folder, _ = export(exports, "binary")
    (video,) = read_masks(folder)
    assert set(video.objects.values()) <= {"1", "2", "fish", "Object 2"}
    frame = next(iter(video.frames()))
    assert sum(mask.sum() for mask in frame.masks.values()) == (session.labels(0) > 0).sum()


def test_coco(session, exports):
    path, _ = export(exports, "coco")
    (video,) = read_masks(path)
    assert video.objects[1] == "fish"
    for number, frame in enumerate(video.frames()):
        for label, mask in frame.masks.items():
            assert (mask == (session.labels(number) == label)).all()


def test_soft_masks_are_those_that_the_network_has_given(session, exports):
    folder, notes = export(exports, "soft")
    assert "1 frame made by hand, whose masks are 0 or 1" in notes
    for number in range(6):
        soft = read_probabilities(folder / "video" / f"{number:05d}.npz")
        best = np.array([0, *soft.objects])[soft.prob.argmax(axis=0)]
        second, first = np.sort(soft.prob, axis=0)[-2:].astype(int)
        is_clear = first - second > 2  # in steps of 1/255, in which following has kept them
        assert is_clear.mean() > 0.2
        assert (best == session.labels(number))[is_clear].all(), f"frame {number}"
        is_soft = ((soft.prob > 5) & (soft.prob < 250)).any()
        assert is_soft == (number in FOLLOWED)


def test_an_overlay_video(session, exports):
    path, _ = export(exports, "overlay")
    frames = list(VideoFile(path))
    assert len(frames) == COUNT
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    untouched = ground_truth(8) == 0
    assert np.abs(frames[8].rgb.astype(int) - picture(8))[untouched].mean() < 12, "a frame without masks is as it was"


def test_foreground_with_alpha(session, exports):
    folder, _ = export(exports, "alpha_png", objects=(1,))
    assert len(list(folder.iterdir())) == COUNT
    rgba = np.array(Image.open(folder / "00000.png"))
    assert (rgba[..., :3] == picture(0)).all()
    assert ((rgba[..., 3] == 255) == (ground_truth(0) == 1)).all()
    assert not np.array(Image.open(folder / "00008.png"))[..., 3].any()

    path, _ = export(exports, "alpha_video", objects=(1,))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt.startswith("yuva444p")
        first = next(container.decode(stream)).to_ndarray(format="rgba")
    assert first.shape == (*SIZE, 4)
    assert ((first[..., 3] > 127) != (ground_truth(0) == 1)).mean() < 0.01


def test_the_memory(session, exports):
    path, (note,) = export(exports, "memory")
    assert note.endswith("its objects: fish, Object 2")
    core = InferenceCore(tiny_network(), session.settings.inference())
    core.load_memory(path)
    assert core.objects == [1, 2]


def test_an_earlier_export_is_never_replaced_and_folders_are_packed(session, exports):
    first, _ = export(exports, "davis")
    second, _ = export(exports, "davis")
    assert first != second
    assert exports.file(second.name).name == f"{second.name}.zip"
    assert exports.file(second.name).stat().st_size > 0
    exports.remove(second.name)
    assert not second.exists()
    assert first.exists()
    assert [each.name for each in Exports(session).listed()] == sorted(each.name for each in exports.listed())
    with pytest.raises(UserError, match="there is no export"):
        exports.file("../workspace.sqlite")


def test_what_is_left_of_a_removed_export_is_not_taken_for_another(session, exports, monkeypatch):
    """A program that was killed while it removed one may have left what it had packed."""
    (first, _), (second, _) = export(exports, "binary"), export(exports, "binary")
    packed = exports.file(second.name)
    left = packed.read_bytes()
    exports.remove(second.name)
    packed.write_bytes(left)
    third, _ = export(exports, "binary")
    assert third.name not in (first.name, second.name)

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.make_archive", fail)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        exports.file(third.name)


def test_what_cannot_be_exported(session, exports, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="frames 3 to 99: the video has frames 0 to 11"):
        exports.start("davis", first=3, last=99)
    with pytest.raises(UserError, match="there is no object 7"):
        exports.start("davis", objects=(7,))
    told = []
    session.listen(told.append)
    name = exports.start("coco", first=8, last=9)
    exports.wait()
    (failed,) = [each for each in exports.listed() if each.name == name]
    assert failed.error == "none of these frames has masks yet"
    assert [change.notice.text for change in told if change.notice] == [f"{name}: none of these frames has masks yet"]
    assert not (exports._folder / name).exists()
    monkeypatch.setattr(session.video, "read", lambda number: (_ for _ in ()).throw(UserError("damaged")))
    for kind in ("overlay", "alpha_video"):
        name = exports.start(kind, last=1)
        exports.wait()
        assert {each.name: each.error for each in exports.listed()}[name] == "none of these frames can be decoded"


@pytest.mark.parametrize(
    ("name", "kind"), [("my_davis_clip_overlay.mp4", "overlay"), ("a_alpha_png_2", "alpha_png"), ("a_davis", "davis")]
)
def test_the_kind_of_an_export_is_in_its_name(name, kind):
    assert _kind_of(name) == kind


@pytest.mark.parametrize(("video", "name"), [(".hid", "hid"), ("x" * 300, "x" * 120), ("...", "video")])
def test_names_of_videos_make_names_of_files(video, name):
    assert _file_name(video) == name


def test_frames_that_cannot_be_decoded_are_left_out_and_said(tmp_path):
    session = new_session(tmp_path, network=False)
    annotate(session, 0)
    (tmp_path / "video" / "00003.png").write_bytes(b"no picture")
    exports = Exports(session)
    path, notes = export(exports, "overlay")
    assert notes == ("1 frame that cannot be decoded left out, the first 3",)
    assert len(list(VideoFile(path))) == COUNT - 1
    exports.close()
    session.close()
    assert open_session(tmp_path / "video", tmp_path / "workspace").close() is None
