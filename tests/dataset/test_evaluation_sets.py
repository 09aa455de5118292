"""Every data set's layout, in miniature: what is opened, what is saved, and how each kind of damage is reported."""

from pathlib import Path

import pytest

from dataset.evaluation_video import EvaluationSet, EvaluationVideo
from dataset.registry import open_evaluation_set
from tests.helpers.layouts import davis_2016_pairs, write_frames, write_masks, write_text, youtube_meta
from util.errors import UserError


def frame_names(video: EvaluationVideo) -> list[str]:
    return list(video.frames.paths)


def by_name(opened: EvaluationSet) -> dict[str, EvaluationVideo]:
    return {video.name: video for video in opened.videos}


@pytest.fixture
def davis_2016(tmp_path: Path) -> Path:
    for name in ("dog", "camel"):
        write_frames(tmp_path / "JPEGImages/480p" / name, range(4))
        write_masks(tmp_path / "Annotations/480p" / name, range(4))
    write_text(
        tmp_path / "ImageSets/480p/val.txt",
        davis_2016_pairs("dog", range(3)) + "\n" + davis_2016_pairs("camel", range(4)),
    )
    return tmp_path


@pytest.fixture
def davis_2017(tmp_path: Path) -> Path:
    for part, list_name, masks in (("trainval", "val.txt", range(3)), ("test-dev", "test-dev.txt", range(1))):
        for name in ("judo", "bike", "unlisted"):
            write_frames(tmp_path / part / "JPEGImages/480p" / name, range(3))
            write_masks(tmp_path / part / "Annotations/480p" / name, masks)
        write_text(tmp_path / part / "ImageSets/2017" / list_name, "judo\r\nbike\r\n\r\n")
    return tmp_path


@pytest.fixture
def youtube(tmp_path: Path) -> Path:
    """The video `a` has frames 0…9; an object starts at frame 2 and one at 6; every second frame is saved."""
    for part in ("valid", "test"):
        write_frames(tmp_path / f"all_frames/{part}_all_frames/JPEGImages/a", range(10))
        write_masks(tmp_path / part / "Annotations/a", ["00002", "00006"])
        objects = {"1": ["00002", "00004", "00006", "00008"], "2": ["00006", "00008"]}
        write_text(tmp_path / part / "meta.json", youtube_meta({"a": objects}))
    return tmp_path


@pytest.fixture
def long_video(tmp_path: Path) -> Path:
    for folder, count in (("long_video", 8), ("long_video_x3", 24)):
        write_frames(tmp_path / folder / "JPEGImages/rat", range(count))
        write_masks(tmp_path / folder / "Annotations/rat", range(0, count, 4))
    return tmp_path


@pytest.fixture
def generic(tmp_path: Path) -> Path:
    write_frames(tmp_path / "JPEGImages/b", range(4))
    write_masks(tmp_path / "Annotations/b", range(1, 2))
    write_frames(tmp_path / "JPEGImages/a", range(4))
    write_masks(tmp_path / "Annotations/a", range(4))
    return tmp_path


def test_davis_2016_has_the_frames_and_videos_of_its_image_set(davis_2016):
    opened = open_evaluation_set("D16", "val", davis_2016, 480)
    assert (opened.name, opened.server_zip, opened.masks_folder) == ("D16", False, "")
    assert [video.name for video in opened.videos] == ["dog", "camel"]
    dog = opened.videos[0]
    masks = davis_2016 / "Annotations/480p/dog"
    assert frame_names(dog) == ["00000", "00001", "00002"]
    assert dog.annotations == {"00000": masks / "00000.png"}
    assert dog.ground_truth == {name: masks / f"{name}.png" for name in ("00000", "00001", "00002")}
    assert dog.saved_frames == {"00000", "00001", "00002"}
    assert dog.output_size is dog.problem is None


def test_davis_2016_lines_must_be_pairs(davis_2016):
    image_set = davis_2016 / "ImageSets/480p/val.txt"
    for line in ("dog", "/JPEGImages/480p/dog/00000.jpg /Annotations/480p/dog/00001.png", "0.jpg 0.png"):
        image_set.write_text(davis_2016_pairs("dog", range(2)) + line)
        with pytest.raises(UserError, match=r"val\.txt: '.*' is not '/JPEG"):
            open_evaluation_set("D16", "val", davis_2016, 480)


def test_davis_2016_frames_that_its_image_set_names_must_be_there(davis_2016):
    (davis_2016 / "JPEGImages/480p/dog/00001.jpg").unlink()
    (davis_2016 / "Annotations/480p/dog/00001.png").unlink()
    videos = by_name(open_evaluation_set("D16", "val", davis_2016, 480))
    assert videos["dog"].problem == f"{davis_2016}/JPEGImages/480p/dog lacks the frame 00001, which the data set names"
    assert videos["camel"].problem is None


def test_davis_2017_validation(davis_2017):
    opened = open_evaluation_set("D17", "val", davis_2017, 480)
    assert not opened.server_zip
    assert [video.name for video in opened.videos] == ["judo", "bike"]
    judo = opened.videos[0]
    masks = davis_2017 / "trainval/Annotations/480p/judo"
    assert frame_names(judo) == ["00000", "00001", "00002"]
    assert judo.annotations == {"00000": masks / "00000.png"}
    assert judo.ground_truth == {name: masks / f"{name}.png" for name in ("00000", "00001", "00002")}


def test_davis_2017_test_dev_has_no_ground_truth_and_is_zipped(davis_2017):
    opened = open_evaluation_set("D17", "test", davis_2017, 480)
    assert opened.server_zip
    assert opened.masks_folder == ""
    assert [video.name for video in opened.videos] == ["judo", "bike"]
    assert opened.videos[0].ground_truth is None
    assert opened.videos[0].frames.folder == davis_2017 / "test-dev/JPEGImages/480p/judo"


def test_davis_2017_image_sets_may_lie_beside_the_parts(davis_2017):
    (davis_2017 / "trainval/ImageSets").rename(davis_2017 / "ImageSets")
    assert len(open_evaluation_set("D17", "val", davis_2017, 480).videos) == 2
    (davis_2017 / "ImageSets/2017/val.txt").unlink()
    with pytest.raises(UserError, match=r"trainval/ImageSets/2017/val\.txt does not exist; the root of D17 is"):
        open_evaluation_set("D17", "val", davis_2017, 480)


def test_an_archive_of_davis_2017_may_be_unpacked_by_itself(davis_2017):
    for split, part in ("val", "trainval"), ("test", "test-dev"):
        (opened, *_) = open_evaluation_set("D17", split, davis_2017 / part, 480).videos
        assert opened.frames.folder == davis_2017 / part / "JPEGImages/480p/judo"


@pytest.mark.parametrize("size", [720, -1, 300])
@pytest.mark.parametrize("dataset", ["D16", "D17"])
def test_davis_at_other_sizes_reads_large_frames_and_writes_480p(request, dataset, size):
    root = request.getfixturevalue({"D16": "davis_2016", "D17": "davis_2017"}[dataset])
    part = root / {"D16": "", "D17": "trainval"}[dataset]
    names = {"D16": ("dog", "camel"), "D17": ("judo", "bike")}[dataset]
    for resolution in ("1080p", "Full-Resolution"):
        for name in names:
            write_frames(part / "JPEGImages" / resolution / name, range(4 if dataset == "D16" else 3), (12, 20))
        video = open_evaluation_set(dataset, "val", root, size).videos[0]
        assert video.problem is None
        assert video.frames.folder == part / "JPEGImages" / resolution / names[0]  # Full-Resolution is preferred
        assert video.output_size == (6, 10)
        assert video.annotations["00000"].parent == part / "Annotations/480p" / names[0]
        assert {path.parent for path in video.ground_truth.values()} == {part / "Annotations/480p" / names[0]}
    assert "480p" in str(open_evaluation_set(dataset, "val", root, 480).videos[0].frames.folder)


@pytest.mark.parametrize("size", [720, -1])
def test_davis_has_to_have_large_frames_for_large_sizes(davis_2017, size):
    with pytest.raises(UserError, match=rf"JPEGImages has no folder Full-Resolution or 1080p, which .* size {size} "):
        open_evaluation_set("D17", "val", davis_2017, size)


def test_davis_at_smaller_sizes_may_read_480p(davis_2017):
    video = open_evaluation_set("D17", "val", davis_2017, 300).videos[0]
    assert video.frames.folder == davis_2017 / "trainval/JPEGImages/480p/judo"
    assert video.output_size is None


def test_davis_at_several_sizes_reads_each_where_it_would_alone(davis_2017):
    for name in ("judo", "bike"):
        write_frames(davis_2017 / "trainval/JPEGImages/Full-Resolution" / name, range(3), (12, 20))
    (davis_2017 / "trainval/JPEGImages/Full-Resolution/bike/00001.jpg").unlink()
    images = davis_2017 / "trainval/JPEGImages"
    masks = davis_2017 / "trainval/Annotations/480p"
    for sizes, problem in (
        ([480, 600, -1], f"{images}/Full-Resolution/bike lacks the frame 00001, which {images}/480p/bike has"),
        ([600, -1, 480], f"{masks}/bike/00001.png has no frame: 00001 is not in {images}/Full-Resolution/bike"),
    ):
        judo, bike = open_evaluation_set("D17", "val", davis_2017, *sizes).videos
        for size in sizes:
            alone, _ = open_evaluation_set("D17", "val", davis_2017, size).videos
            assert judo.frames_for(size).paths == alone.frames.paths
        assert judo.frames_for(sizes[0]) is judo.frames
        assert judo.output_size == (6, 10)
        assert bike.problem == problem


def test_davis_needs_the_label_map_of_the_first_frame(davis_2017):
    (davis_2017 / "trainval/Annotations/480p/judo/00000.png").unlink()
    videos = by_name(open_evaluation_set("D17", "val", davis_2017, 480))
    assert "judo/00000.png, the label map of the first frame, does not exist" in videos["judo"].problem


def test_an_image_set_may_name_a_video_that_is_not_there(davis_2017):
    write_text(davis_2017 / "trainval/ImageSets/2017/val.txt", "judo\nabsent\nbike\n")
    judo, absent, bike = open_evaluation_set("D17", "val", davis_2017, 480).videos
    assert judo.problem is bike.problem is None
    assert absent.name == "absent"
    assert absent.problem == f"{davis_2017}/trainval/JPEGImages/480p/absent does not exist"
    assert list(absent.frames) == []


@pytest.mark.parametrize(("split", "part"), [("val", "valid"), ("test", "test")])
@pytest.mark.parametrize("dataset", ["Y18", "Y19"])
def test_youtube_objects_start_where_a_mask_is_and_listed_frames_are_saved(youtube, dataset, split, part):
    opened = open_evaluation_set(dataset, split, youtube, 480)
    assert (opened.name, opened.server_zip, opened.masks_folder) == (dataset, True, "Annotations")
    (video,) = opened.videos
    assert len(frame_names(video)) == 10
    assert list(video.annotations) == ["00002", "00006"]
    assert video.annotations["00006"] == youtube / part / "Annotations/a/00006.png"
    assert video.saved_frames == {"00002", "00004", "00006", "00008"}
    assert video.ground_truth is None


def test_youtube_has_no_ground_truth_even_where_every_saved_frame_has_a_mask(youtube):
    write_masks(youtube / "valid/Annotations/a", ["00004", "00008"])
    (video,) = open_evaluation_set("Y18", "val", youtube, 480).videos
    assert len(video.annotations) == 4
    assert video.ground_truth is None


def test_youtube_needs_all_frames(youtube):
    (youtube / "all_frames").rename(youtube / "frames")
    with pytest.raises(UserError, match=r"all_frames/valid_all_frames/JPEGImages does not exist.*; the root of Y18 is"):
        open_evaluation_set("Y18", "val", youtube, 480)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"videos": {"a": {"objects": {"1": {}}}}}', '{"videos": {}}', "\xff", 10**5 * "["],
    ids=lambda text: text[:20],
)
def test_youtube_meta_is_checked(youtube, text):
    (youtube / "valid/meta.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"valid/meta\.json"):
        open_evaluation_set("Y19", "val", youtube, 480)


def test_youtube_saved_frames_must_be_there(youtube):
    (youtube / "all_frames/valid_all_frames/JPEGImages/a/00008.jpg").unlink()
    (video,) = open_evaluation_set("Y19", "val", youtube, 480).videos
    assert "JPEGImages/a lacks the frame 00008" in video.problem


@pytest.mark.parametrize("objects", [{}, {"1": []}])
def test_youtube_videos_without_a_frame_to_be_saved_are_no_results(youtube, objects):
    (youtube / "valid/meta.json").write_text(youtube_meta({"a": objects}))
    (video,) = open_evaluation_set("Y19", "val", youtube, 480).videos
    assert "JPEGImages/a: the data set names no frame of this video" in video.problem


@pytest.mark.parametrize(("dataset", "folder", "count"), [("LV1", "long_video", 2), ("LV3", "long_video_x3", 6)])
def test_long_videos_save_the_frames_that_have_masks(long_video, dataset, folder, count):
    (video,) = open_evaluation_set(dataset, "val", long_video, 480).videos
    masks = long_video / folder / "Annotations/rat"
    assert video.frames.frame_count == 4 * count
    assert video.annotations == {"00000": masks / "00000.png"}
    assert video.saved_frames == {f"{4 * index:05d}" for index in range(count)}
    assert video.ground_truth == {f"{4 * index:05d}": masks / f"{4 * index:05d}.png" for index in range(count)}


def test_mose_has_first_masks_and_saves_every_frame(tmp_path):
    write_frames(tmp_path / "valid/JPEGImages/v", range(3))
    write_masks(tmp_path / "valid/Annotations/v", range(1))
    opened = open_evaluation_set("MOSE", "val", tmp_path, 480)
    (video,) = opened.videos
    assert (opened.server_zip, opened.masks_folder) == (False, "")
    assert video.annotations == {"00000": tmp_path / "valid/Annotations/v/00000.png"}
    assert video.saved_frames is video.ground_truth is video.problem is None


def test_generic_videos_may_start_late_and_have_ground_truth(generic):
    write_masks(generic / "Annotations/b", range(1, 3))
    a, b = open_evaluation_set("G", "val", generic, -1).videos
    assert (a.name, b.name) == ("a", "b")
    assert b.annotations == {"00001": generic / "Annotations/b/00001.png"}
    assert list(a.ground_truth) == [f"{index:05d}" for index in range(4)]
    assert a.ground_truth["00003"] == generic / "Annotations/a/00003.png"
    assert b.ground_truth is None
    write_masks(generic / "Annotations/b", range(3, 4))
    # Frames before the first annotation are not segmented, so they need no ground truth.
    b = open_evaluation_set("G", "val", generic, -1).videos[1]
    assert list(b.ground_truth) == ["00001", "00002", "00003"]


def test_what_is_wrong_with_one_video_is_kept_and_leaves_the_others(generic):
    write_frames(generic / "JPEGImages/empty", range(0))
    write_masks(generic / "Annotations/empty", range(1))
    write_frames(generic / "JPEGImages/maskless", range(2))
    write_masks(generic / "Annotations/maskless", range(0))
    write_frames(generic / "JPEGImages/unannotated", range(2))
    write_masks(generic / "Annotations/frameless", range(1))
    write_frames(generic / "JPEGImages/stray", range(2))
    write_masks(generic / "Annotations/stray", range(3))
    write_frames(generic / "JPEGImages/twice", ["a"])
    write_masks(generic / "JPEGImages/twice", ["a"])
    write_masks(generic / "Annotations/twice", ["a"])
    videos = by_name(open_evaluation_set("G", "val", generic, 480))
    problems = {name: video.problem for name, video in videos.items()}
    assert problems.pop("a") is problems.pop("b") is None
    assert problems == {
        "empty": f"{generic}/JPEGImages/empty holds no frames (.bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp)",
        "maskless": f"{generic}/Annotations/maskless holds no label maps (.bmp, .png, .tif, .tiff)",
        "unannotated": f"{generic}/Annotations/unannotated does not exist",
        "frameless": f"{generic}/JPEGImages/frameless does not exist",
        "stray": f"{generic}/Annotations/stray/00002.png has no frame: 00002 is not in {generic}/JPEGImages/stray",
        "twice": f"{generic}/JPEGImages/twice holds both a.jpg and a.png: keep one of them",
    }
    assert all(list(videos[name].frames) == [] and not videos[name].annotations for name in problems)


def test_hidden_folders_and_loose_files_are_no_videos(generic):
    (generic / "JPEGImages/.git").mkdir()
    (generic / "JPEGImages/readme.txt").write_text("")
    assert [video.name for video in open_evaluation_set("G", "val", generic, 480).videos] == ["a", "b"]


@pytest.mark.parametrize("dataset", ["D16", "D17", "Y18", "Y19", "LV1", "LV3", "MOSE", "G"])
def test_a_root_that_is_not_there_or_empty_is_named_with_what_it_has_to_be(tmp_path, dataset):
    for root in (tmp_path / "absent", tmp_path):
        with pytest.raises(UserError, match=rf"^{root}.* does not exist.*; the root of {dataset} is the") as error:
            open_evaluation_set(dataset, "val", root, 480)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "missing", ["JPEGImages/480p", "Annotations/480p", "ImageSets/480p/val.txt", "JPEGImages", "Annotations"]
)
def test_folders_the_whole_set_needs_raise_at_once(davis_2016, missing):
    (davis_2016 / missing).rename(davis_2016 / "elsewhere")
    with pytest.raises(UserError, match=str(davis_2016 / Path(missing).parts[0])):
        open_evaluation_set("D16", "val", davis_2016, 480)


def test_sets_without_videos_are_refused(davis_2016, tmp_path):
    (davis_2016 / "ImageSets/480p/val.txt").write_text("\n")
    with pytest.raises(UserError, match=r"val\.txt names no video"):
        open_evaluation_set("D16", "val", davis_2016, 480)
    for folder in ("empty/JPEGImages", "empty/Annotations"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UserError, match=r"empty/JPEGImages has no folders"):
        open_evaluation_set("G", "val", tmp_path / "empty", 480)


@pytest.mark.parametrize("dataset", ["D16", "LV1", "LV3", "MOSE", "G"])
def test_sets_without_a_test_split_refuse_it(tmp_path, dataset):
    with pytest.raises(UserError, match=f"split test: {dataset} has no such split"):
        open_evaluation_set(dataset, "test", tmp_path, 480)


def test_unknown_sets_and_splits_are_refused(tmp_path):
    with pytest.raises(UserError, match="dataset D18: there is D16, D17"):
        open_evaluation_set("D18", "val", tmp_path, 480)
    with pytest.raises(UserError, match="split train: D17"):
        open_evaluation_set("D17", "train", tmp_path, 480)


def test_opening_lists_and_does_not_read_images(generic):
    for path in generic.glob("*/*/*"):
        path.write_bytes(b"no image")
    generic.rename(generic.parent / "valid")
    assert [video.problem for video in open_evaluation_set("MOSE", "val", generic.parent, 480).videos] == [None, None]


def test_a_damaged_mask_whose_size_is_needed_is_that_videos_problem(davis_2017):
    for name in ("judo", "bike"):
        write_frames(davis_2017 / "trainval/JPEGImages/1080p" / name, range(3), (12, 20))
    (davis_2017 / "trainval/Annotations/480p/judo/00000.png").write_bytes(b"no image")
    judo, bike = open_evaluation_set("D17", "val", davis_2017, 720).videos
    assert "judo/00000.png is not an image" in judo.problem
    assert bike.problem is None


def test_davis_2016_as_downloaded(shared):
    opened = open_evaluation_set("D16", "val", shared / "DAVIS/2016", 480)
    videos = by_name(opened)
    assert len(videos) == 14
    assert all(video.problem is None and video.ground_truth is not None for video in opened.videos)
    assert videos["dog"].frames.frame_count == 60
    assert [*videos["dog"].annotations] == ["00000"]
