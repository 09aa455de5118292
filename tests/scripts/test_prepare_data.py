"""What is told of data sets that are there, missing or incomplete; and YouTubeVOS at 480p."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.frames import read_frame
from dataset.label_map import read_label_map
from dataset.registry import DATA_SETS, TRAINING_SETS
from dataset.resize import resize_frame, resize_video, size_at_480p
from dataset.training_sets import PUBLISHED_SETS, youtube_vos
from scripts import prepare_data
from tests.helpers.benchmarks import write_lvos, write_mose2, write_sav, write_vost
from tests.helpers.layouts import davis_2016_pairs, frame_name, write_frames, write_masks, write_text, youtube_meta
from util.errors import UserError
from util.files import sole_user

FRAMES = range(3)
PALETTE = bytes(range(0, 240, 10))  # eight colours: with fewer, Pillow would store the label 7 in too few bits


def write_video(images: Path, masks: Path, name: str, frames: range = FRAMES) -> None:
    write_frames(images / name, frames)
    write_masks(masks / name, frames)


def write_davis_2016(root: Path) -> None:
    for name in ("a", "b"):
        write_video(root / "JPEGImages/480p", root / "Annotations/480p", name)
    write_text(root / "ImageSets/480p/val.txt", davis_2016_pairs("a", FRAMES) + davis_2016_pairs("b", FRAMES))


def write_davis_2017(root: Path) -> None:
    for part, name, lists in (("trainval", "a", ("train", "val")), ("test-dev", "t", ("test-dev",))):
        write_video(root / part / "JPEGImages/480p", root / part / "Annotations/480p", name)
        for image_set in lists:
            write_text(root / part / f"ImageSets/2017/{image_set}.txt", f"{name}\n")


def write_youtube_vos(root: Path) -> None:
    for part in ("valid", "test"):
        frames = root / f"all_frames/{part}_all_frames/JPEGImages"
        write_video(frames, root / part / "Annotations", "v")
        write_text(root / part / "meta.json", youtube_meta({"v": {"255": [frame_name(0)]}}))


def write_pairs(folder: Path, count: int) -> None:
    write_frames(folder, range(count))
    write_masks(folder, range(count))


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Path:
    """A folder beside which the default roots of all sets lie, in miniature."""
    top = tmp_path_factory.mktemp("sets")
    write_davis_2016(top / "DAVIS/2016")
    write_davis_2017(top / "DAVIS/2017")
    write_youtube_vos(top / "YouTube2018")
    write_youtube_vos(top / "YouTube")
    for folder in ("long_video_set/long_video", "long_video_set/long_video_x3", "MOSE/valid", "BL30K", "mine"):
        write_video(top / folder / "JPEGImages", top / folder / "Annotations", "v")
    write_video(top / "YouTube/train_480p/JPEGImages", top / "YouTube/train_480p/Annotations", "v")
    for name in PUBLISHED_SETS:
        write_pairs(top / "static" / name / "ant" if name == "fss" else top / "static" / name, 2)
    for name in ("LVOS_V1", "LVOS_V2"):
        write_lvos(top / name)
    write_mose2(top / "MOSEv2")
    write_vost(top / "VOST")
    write_sav(top / "SA-V")
    (top / "xmem").mkdir()
    return top / "xmem"


def rows_of(printed: str) -> dict[str, list[str]]:
    """Status, counts and root of each data set in the table, by name."""
    return {row.split()[0]: row.split()[1:] for row in printed.splitlines()[1:] if not row.startswith(" ")}


# --- check ------------------------------------------------------------------------------------------------------------


def test_what_is_complete_is_ok_and_counted(everything, monkeypatch, capsys):
    monkeypatch.chdir(everything)
    assert prepare_data.main(["check"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows.keys() == (DATA_SETS.keys() | TRAINING_SETS.keys()) - {"G", "own"}
    assert {row[0] for row in rows.values()} == {"ok"}
    assert rows["D16"] == ["ok", "2", "6", "../DAVIS/2016"]
    assert rows["YouTubeVOS"] == ["ok", "1", "3", "../YouTube"]
    assert rows["fss"] == ["ok", "2", "../static"]


@pytest.mark.parametrize("name", prepare_data.PARTS)
def test_each_set_can_be_named(name, everything, monkeypatch, capsys):
    monkeypatch.chdir(everything)
    flags = {"G": ["--generic_path", "../mine"], "own": ["--videos_root", "../mine"]}.get(name, [])
    assert prepare_data.main(["check", name, *flags]) == 0
    assert list(rows_of(capsys.readouterr().out)) == [name]


@pytest.mark.parametrize("name", prepare_data.PARTS)
def test_what_is_not_there_is_reported_with_where_to_get_it(name, tmp_path, capsys):
    root, entry = tmp_path / "absent", prepare_data.PARTS[name].entry
    assert prepare_data.main(["check", name, f"--{entry.root_name}", str(root)]) == 1
    _, row, *below = capsys.readouterr().out.splitlines()
    assert row.split() == [name, "missing", str(root)]
    root_title = entry.root_name if name in TRAINING_SETS else f"the root of {entry.name}"
    source = f"; get it from: {entry.page}" if entry.page else ""
    assert below == [
        f"    {root} does not exist or is not a folder; {root_title} is {entry.root_holds}",
        f"    --{entry.root_name} names another root{source}",
    ]


def test_flags_choose_the_sets_whose_roots_they_name(everything, capsys):
    top = everything.parent
    flags = ["--d17_path", str(top / "DAVIS/2017"), "--lv_path", str(top / "long_video_set")]
    assert prepare_data.main(["check", *flags]) == 0
    assert list(rows_of(capsys.readouterr().out)) == ["D17", "LV1", "LV3"]


def test_what_is_incomplete_is_named_the_first_five_lines_of_it(tmp_path, capsys):
    root = tmp_path / "DAVIS"
    write_davis_2016(root)
    (root / "ImageSets/480p/val.txt").write_text("".join(davis_2016_pairs(name, FRAMES) for name in "abcdefgh"))
    assert prepare_data.main(["check", "--d16_path", str(root)]) == 1
    _, row, *below = capsys.readouterr().out.splitlines()
    assert row.split() == ["D16", "partly", "2", "6", str(root)]
    assert below[0] == f"    c: {root}/JPEGImages/480p/c does not exist"
    assert below[5:] == ["    and 1 more", "    --d16_path names another root; get it from: https://davischallenge.org"]


def test_an_image_without_its_mask_is_named(tmp_path, capsys):
    write_pairs(tmp_path / "ecssd", 2)
    (tmp_path / "ecssd/00001.png").unlink()
    write_frames(tmp_path / "fss", FRAMES)  # not in folders of classes
    assert prepare_data.main(["check", "ecssd", "fss", "--static_root", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert f"{tmp_path}/ecssd/00001.jpg" in printed
    assert f"{tmp_path}/fss holds no CLASS/X.jpg with its mask CLASS/X.png beside it" in printed


def test_youtube_vos_that_is_not_resized_is_reported_with_the_remedy(tmp_path, capsys):
    for name in ("a", "b"):
        write_video(tmp_path / "train/JPEGImages", tmp_path / "train/Annotations", name)
    assert prepare_data.main(["check", "--yv_root", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert f"lacks 2 of the videos in {tmp_path}/train, the first is a; python -m scripts.prepare_data" in printed
    write_video(tmp_path / "train_480p/JPEGImages", tmp_path / "train_480p/Annotations", "a")
    assert prepare_data.main(["check", "--yv_root", str(tmp_path)]) == 1
    assert "lacks 1 of the videos" in capsys.readouterr().out


def test_training_videos_without_any_mask_are_named(tmp_path, capsys):
    folder = tmp_path / "train_480p"
    write_video(folder / "JPEGImages", folder / "Annotations", "a")
    write_frames(folder / "JPEGImages/bare", FRAMES)
    assert prepare_data.main(["check", "--yv_root", str(tmp_path)]) == 1
    assert "bare: none of its frames has a mask" in capsys.readouterr().out


def test_mistakes_are_one_line(capsys):
    for flags in (["check", "D18"], ["check", "G"], ["resize", "--workers", "0"], ["resize", "--yv_root", "absent"]):
        assert prepare_data.main(flags) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


# --- resize -----------------------------------------------------------------------------------------------------------


def write_original(root: Path, name: str, size: tuple[int, int] = (600, 700), frames: range = range(2)) -> None:
    write_frames(root / "train/JPEGImages" / name, frames, size)
    write_masks(root / "train/Annotations" / name, frames, size, labels=(1, 2, 7), palette=PALETTE)


def run_resize(root: Path, *flags: str) -> int:
    return prepare_data.main(["resize", "--yv_root", str(root), "--workers", "1", *flags])


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("size", "expected"),
    [((720, 1280), (480, 853)), ((1280, 720), (853, 480)), ((1080, 1920), (480, 853)), ((481, 481), (480, 480))],
)
def test_the_shorter_side_becomes_480(size, expected):
    assert size_at_480p(*size) == expected


@pytest.mark.parametrize("size", [(480, 854), (300, 1000), (1000, 480), (1, 1)])
def test_what_is_not_larger_keeps_its_size(size):
    assert size_at_480p(*size) == size


def test_frames_and_masks_are_resized_alike_and_masks_keep_labels_and_palette(tmp_path):
    """The same shapes, as image and as mask: they still coincide, to a small part of a pixel."""
    rows, columns = np.indices((1080, 1350))
    labels = np.zeros((1080, 1350), np.uint8)
    for label, row, column in ((1, 300, 300), (2, 700, 500), (7, 400, 1000)):
        labels[np.hypot(rows - row, columns - column) < 200] = label
    for part in ("JPEGImages", "Annotations"):
        (tmp_path / "train" / part / "v").mkdir(parents=True)
    Image.fromarray(((labels > 0) * 255).astype(np.uint8)).save(tmp_path / "train/JPEGImages/v/0.png")
    image = Image.fromarray(labels)
    image.putpalette(PALETTE)
    image.save(tmp_path / "train/Annotations/v/0.png")

    resize_video(tmp_path / "train", tmp_path / "train_480p", "v")
    rgb = read_frame(tmp_path / "train_480p/JPEGImages/v/0.png").rgb
    resized = read_label_map(tmp_path / "train_480p/Annotations/v/0.png")
    assert rgb.shape == (480, 600, 3)
    assert resized.labels.shape == (480, 600)
    assert set(np.unique(resized.labels)) == {0, 1, 2, 7}
    assert resized.palette is not None
    assert resized.palette.startswith(PALETTE)
    weights = rgb[:, :, 0] / 255, (resized.labels > 0).astype(float)
    centres = [np.array([(w * axis).sum() / w.sum() for axis in np.indices(w.shape)]) for w in weights]
    assert np.abs(centres[0] - centres[1]).max() < 0.1
    assert np.abs(weights[0] - weights[1]).mean() < 2e-3


def test_frames_are_averaged_not_sampled(tmp_path):
    """Of the nine pixels that become one, that in the middle is white."""
    pattern = np.tile(np.array([[0, 0, 0], [0, 255, 0], [0, 0, 0]], np.uint8), (480, 480))
    Image.fromarray(pattern).save(tmp_path / "source.png")
    resize_frame(tmp_path / "source.png", tmp_path / "target.png")
    assert np.unique(read_frame(tmp_path / "target.png").rgb).tolist() == [round(255 / 9)]


def test_smaller_videos_are_copied(tmp_path):
    write_original(tmp_path, "v", (300, 1000))
    resize_video(tmp_path / "train", tmp_path / "train_480p", "v")
    assert tree(tmp_path / "train_480p") == tree(tmp_path / "train")


def test_the_program_makes_the_folder_that_training_reads(tmp_path, capsys):
    write_original(tmp_path, "a")
    write_original(tmp_path, "b", (700, 600))
    assert run_resize(tmp_path, "--workers", "2") == 0
    assert "2 of 2 videos" in capsys.readouterr().out
    videos = youtube_vos(tmp_path).videos
    assert [video.frames for video in videos] == [("00000.jpg", "00001.jpg")] * 2
    assert [video.read([0, 1])[1].shape[1:] for video in videos] == [(480, 560), (560, 480)]
    assert prepare_data.main(["check", "--yv_root", str(tmp_path)]) == 0


def test_finished_videos_are_skipped_and_a_killed_runs_remains_go(tmp_path):
    for name in ("done", "half", "new"):
        write_original(tmp_path, name, (20, 30))
    source, target = tmp_path / "train", tmp_path / "train_480p"
    resize_video(source, target, "done")
    marked = target / "JPEGImages/done/00000.jpg"
    marked.write_bytes(b"as it was")
    resize_video(source, target, "half")
    (target / "JPEGImages/half").rename(target / "JPEGImages/.half.0123abcd.partial")  # killed before it had its name
    (target / "JPEGImages/.half.0123abcd.partial/00000.jpg").unlink()
    assert run_resize(tmp_path) == 0
    assert marked.read_bytes() == b"as it was"
    marked.write_bytes((source / "JPEGImages/done/00000.jpg").read_bytes())
    assert tree(target) == tree(source)
    assert not list(target.rglob(".*.partial"))


def test_what_is_damaged_is_named_whole_or_absent_and_made_when_mended(tmp_path, capsys):
    write_original(tmp_path, "good")
    write_original(tmp_path, "torn")
    torn = tmp_path / "train/JPEGImages/torn/00001.jpg"
    content = torn.read_bytes()
    torn.write_bytes(content[:300])
    (tmp_path / "train/JPEGImages/maskless").mkdir()
    assert run_resize(tmp_path) == 1
    captured = capsys.readouterr()
    assert "1 of 3 videos" in captured.out
    failures = [line for line in captured.err.splitlines() if line.startswith("failed: ")]
    assert [line.split(":")[1] for line in failures] == [" maskless", " torn"]
    assert str(torn) in failures[1]
    assert [path.name for path in (tmp_path / "train_480p/JPEGImages").iterdir()] == ["good"]

    torn.write_bytes(content)
    (tmp_path / "train/JPEGImages/maskless").rmdir()
    assert run_resize(tmp_path) == 0
    assert tree(tmp_path / "train_480p").keys() == tree(tmp_path / "train").keys()


def test_a_folder_that_something_else_left_incomplete_is_named_and_not_touched(tmp_path):
    write_original(tmp_path, "v", (20, 30))
    theirs = tmp_path / "train_480p/JPEGImages/v"
    theirs.mkdir(parents=True)
    (theirs / "00000.jpg").write_text("theirs")
    with pytest.raises(UserError, match=r"JPEGImages/v lacks 00001\.jpg"):
        resize_video(tmp_path / "train", tmp_path / "train_480p", "v")
    assert tree(theirs) == {"00000.jpg": b"theirs"}


def test_two_runs_at_once_are_refused(tmp_path, capsys):
    write_original(tmp_path, "v", (20, 30))
    (tmp_path / "train_480p").mkdir()
    with sole_user(tmp_path / "train_480p"):
        assert run_resize(tmp_path) == 2
    assert "in use by another run" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path, capsys):
    write_original(tmp_path, "v", (20, 30))
    (tmp_path / "train_480p").mkdir()
    (tmp_path / "train_480p/Annotations").write_text("a file")
    assert run_resize(tmp_path) == 2
    assert "cannot be written" in capsys.readouterr().err.splitlines()[-1]


def test_an_interrupt_says_that_the_command_resumes(tmp_path, monkeypatch, capsys):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    write_original(tmp_path, "v", (20, 30))
    monkeypatch.setattr(prepare_data, "resize_videos", interrupt)
    assert run_resize(tmp_path) == 130
    assert "the same command resumes" in capsys.readouterr().err


# --- A folder of one's own --------------------------------------------------------------------------------------------


def empty_masks(root: Path) -> None:
    write_masks(root / "Annotations/v", range(2), labels=())


def other_size(root: Path) -> None:
    write_frames(root / "JPEGImages/v", range(1, 2), (12, 20))
    write_masks(root / "Annotations/v", range(1, 2), (12, 20), labels=(1,))


def turned(root: Path) -> None:
    path = root / "JPEGImages/v/00001.jpg"
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 3
        image.save(path, exif=exif)


FINDINGS = {
    "names without padding": (
        lambda root: [path.rename(path.with_stem(str(8 + int(path.stem)))) for path in sorted(root.glob("*/v/*"))],
        "frames are taken in the order 8, 9, 10, …; other programs take 10, 11, 8, …: pad the numbers",
    ),
    "empty label maps": (empty_masks, "label maps before the first object (2): objects are followed from 00002 on"),
    "some label maps": (
        lambda root: (root / "Annotations/v/00002.png").unlink(),
        "3 of 4 frames have a label map: training uses all, evaluation those after the first only with --use_all_masks",
    ),
    "a JPEG": (
        lambda root: Image.new("L", (10, 6)).save(root / "Annotations/v/00003.png", format="JPEG"),
        "Annotations/v/00003.png is a JPEG image, which blurs labels",
    ),
    "a frame cut short": (
        lambda root: (root / "JPEGImages/v/00003.jpg").write_bytes(
            (root / "JPEGImages/v/00003.jpg").read_bytes()[:300]
        ),
        "JPEGImages/v/00003.jpg cannot be read, it may be damaged",
    ),
    "another size": (other_size, "frames differ in size, and frames of one video have one: 10x6 (from 00000), 20x12"),
    "a label map of another size": (
        lambda root: write_masks(root / "Annotations/v", range(1, 2), (12, 20), labels=(1,)),
        "Annotations/v/00001.png is 20x12, but its frame 10x6; they must have one size",
    ),
    "EXIF": (turned, "frames that are marked as turned and read upright (1): 00001.jpg"),
    "no frame": (
        lambda root: (root / "JPEGImages/v/00003.jpg").unlink(),
        "label maps without a frame of their name (1): 00003",
    ),
    "a label once": (
        lambda root: write_masks(root / "Annotations/v", range(2, 3), labels=(1, 9)),
        "labels that appear in one label map only, perhaps by mistake (1): 9 (in 00002)",
    ),
    "void": (
        lambda root: write_masks(root / "Annotations/v", range(4), labels=(1, 255)),
        "label 255 beside others means void and is not followed",
    ),
    "no label maps": (
        lambda root: [path.unlink() for path in (root / "Annotations/v").iterdir()],
        "Annotations/v holds no label maps",
    ),
}


@pytest.mark.parametrize("case", FINDINGS)
def test_a_folder_is_looked_at_before_it_is_used(tmp_path, capsys, case):
    for name in ("v", "whole"):
        write_frames(tmp_path / "JPEGImages" / name, range(4))
        write_masks(tmp_path / "Annotations" / name, range(4), labels=(1,))
    assert prepare_data.main(["check", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "".join(f"ok    {name}: 4 frames, 4 label maps\n" for name in ("v", "whole"))
    change, expected = FINDINGS[case]
    change(tmp_path)
    assert prepare_data.main(["check", str(tmp_path)]) == 1
    first, *findings, last = capsys.readouterr().out.splitlines()
    assert first.startswith("look  v: ")
    assert len(findings) == 1
    assert expected in findings[0]
    assert last == "ok    whole: 4 frames, 4 label maps"


def test_frames_alone_can_be_looked_at_but_nothing_else(tmp_path, capsys):
    write_frames(tmp_path / "clip", range(2))
    assert prepare_data.main(["check", str(tmp_path / "clip")]) == 0
    assert prepare_data.main(["check", str(tmp_path)]) == 2
    assert "holds neither JPEGImages (and Annotations) nor images" in capsys.readouterr().err
    assert prepare_data.main(["check", str(tmp_path / "clip"), "D17"]) == 2
