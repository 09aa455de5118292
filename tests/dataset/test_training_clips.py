"""Images and videos for training: layouts, what is wrong with them, and samples that depend on their number alone."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from dataset.augmentation import moved_past, pasted_onto
from dataset.label_map import write_label_map
from dataset.sampling import SamplingConfig, TrainingSample, TrainingSource
from dataset.synthetic.clips import SyntheticClips
from dataset.training_clips import StaticImages, TrainingVideos, is_speck
from dataset.training_sets import (
    PUBLISHED_SETS,
    bl30k,
    davis_2017,
    long_enough,
    own_videos,
    read_mask,
    static_images,
    youtube_vos,
)
from training.config import STAGES, DataConfig
from training.data import open_stage_data
from util.errors import UserError

HEIGHT, WIDTH = 40, 60
CONFIG = SamplingConfig(seed=1, stage="3", num_frames=3, size=32)


def write_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), np.uint8)
    Image.fromarray(rgb).resize((WIDTH, HEIGHT)).save(path)


def write_mask(path: Path, objects: tuple[int, ...] = (1,)) -> None:
    """Objects side by side, over the whole height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for index, label in enumerate(objects):
        labels[4:36, 4 + 52 * index // len(objects) : 2 + 52 * (index + 1) // len(objects)] = label
    write_label_map(path, labels)


def write_pair(folder: Path, name: str) -> None:
    write_image(folder / f"{name}.jpg")
    write_mask(folder / f"{name}.png", (255,))


def write_video(
    images: Path, masks: Path, name: str, frames: int = 6, objects: tuple[int, ...] = (1,), annotated_every: int = 1
) -> None:
    for frame in range(frames):
        write_image(images / name / f"{frame:05d}.jpg", seed=frame)
        if frame % annotated_every == 0:
            write_mask(masks / name / f"{frame:05d}.png", objects)


def write_generic(root: Path, names: tuple[str, ...] = ("a", "b"), **video) -> Path:
    for name in names:
        write_video(root / "JPEGImages", root / "Annotations", name, **video)
    return root


def assert_is_sample(sample: TrainingSample, frames: int = 3, size: int = 32) -> None:
    assert sample.images.shape == (frames, 3, size, size)
    assert sample.labels.shape == (frames, size, size)
    assert sample.images.dtype == sample.labels.dtype == torch.uint8
    assert sample.objects >= 1
    assert set(sample.labels[0].unique().tolist()) | {0} == set(range(sample.objects + 1))
    assert set(sample.labels.unique().tolist()) <= set(range(sample.objects + 1))


def equal(one: TrainingSample, other: TrainingSample) -> bool:
    return (
        torch.equal(one.images, other.images)
        and torch.equal(one.labels, other.labels)
        and (one.objects, one.skipped) == (other.objects, other.skipped)
    )


# --- A sample is a function of its number -----------------------------------------------------------------------------


def static_source(tmp_path: Path) -> TrainingSource:
    for index in range(3):
        write_pair(tmp_path / "static", str(index))
    return StaticImages(static_images(tmp_path / "static"), CONFIG)


def video_source(tmp_path: Path) -> TrainingSource:
    return TrainingVideos(
        [own_videos(write_generic(tmp_path / "videos", ("a", "b", "c"), objects=(1, 2, 3, 4)))], CONFIG
    )


def synthetic_source(tmp_path: Path) -> TrainingSource:
    return SyntheticClips(CONFIG)


def cut_out_source(tmp_path: Path) -> TrainingSource:
    for index in range(2):
        write_pair(tmp_path / "photographs", str(index))
    return SyntheticClips(CONFIG, static_images(tmp_path / "photographs"))


SOURCES = [static_source, video_source, synthetic_source, cut_out_source]


class Numbered(torch.utils.data.Dataset):
    """Samples by their number, as a loader's workers make them."""

    def __init__(self, source: TrainingSource):
        self.source = source

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> TrainingSample:
        return self.source.sample(number, 5)


@pytest.mark.parametrize("open_source", SOURCES)
def test_samples_are_the_same_in_any_order_in_any_process(tmp_path, open_source: Callable[[Path], TrainingSource]):
    source = open_source(tmp_path)
    assert isinstance(source, TrainingSource)
    samples = [source.sample(number, 5) for number in range(4)]
    for sample in samples:
        assert_is_sample(sample)
    torch.manual_seed(99)
    np.random.seed(99)
    again = open_source(tmp_path)
    assert all(equal(samples[number], again.sample(number, 5)) for number in (3, 1))
    loader = DataLoader(Numbered(source), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert all(equal(*pair) for pair in zip(samples, loader, strict=True))
    assert not torch.equal(samples[0].images, samples[1].images)


def test_seed_and_stage_and_jump_change_videos(tmp_path):
    videos = own_videos(write_generic(tmp_path, frames=40))

    def sample(seed: int = 1, stage: str = "3", jump: int = 5) -> TrainingSample:
        return TrainingVideos([videos], SamplingConfig(seed, stage, num_frames=3, size=32)).sample(0, jump)

    variants = [sample(), sample(seed=2), sample(stage="2"), sample(jump=15)]
    assert equal(variants[0], sample())
    assert not any(equal(variants[0], other) for other in variants[1:])


# --- Static images ----------------------------------------------------------------------------------------------------


def test_the_published_sets_are_found_and_the_small_ones_shown_five_times(tmp_path):
    write_pair(tmp_path / "fss" / "cat", "1")
    write_pair(tmp_path / "fss" / "dog", "1")
    for name in list(PUBLISHED_SETS)[1:]:
        write_pair(tmp_path / name, "x")
    write_pair(tmp_path, "stray")  # does not belong to the sets
    counts: dict[str, int] = {}
    for pair in static_images(tmp_path):
        folder = pair.image.parent.name
        counts[folder] = counts.get(folder, 0) + 1
        assert pair.mask == pair.image.with_suffix(".png")
    once = dict.fromkeys(("cat", "dog", "DUTS-TR", "DUTS-TE", "ecssd"), 1)
    assert counts == once | {"BIG_small": 5, "HRSOD_small": 5}


def test_some_of_the_sets_or_a_plain_folder_will_do(tmp_path):
    write_pair(tmp_path / "some" / "ecssd", "0")
    assert len(static_images(tmp_path / "some")) == 1
    write_pair(tmp_path / "plain", "0")
    write_pair(tmp_path / "plain", "1")
    assert [pair.image.name for pair in static_images(tmp_path / "plain")] == ["0.jpg", "1.jpg"]


def test_single_images_and_masks_are_listed_up_to_ten(tmp_path):
    write_pair(tmp_path, "whole")
    for index in range(11):
        write_image(tmp_path / f"alone{index:02d}.jpg")
    write_mask(tmp_path / "lonely.png")
    with pytest.raises(UserError, match=r"12 files .*alone00\.jpg.*alone09\.jpg and 2 more$") as error:
        static_images(tmp_path)
    assert "alone10" not in str(error.value)


def test_no_image_at_all_is_reported_with_the_layout(tmp_path):
    with pytest.raises(UserError, match="holds no image with a mask; it has to be the folder above fss"):
        static_images(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        static_images(tmp_path / "absent")


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("L", [0, 127, 128, 255], [0, 0, 1, 1]),
        ("L", [0, 1, 0, 1], [0, 1, 0, 1]),
        ("P", [0, 1, 2, 0], [0, 1, 1, 0]),
        ("RGB", [0, 100, 200, 255], [0, 0, 1, 1]),
    ],
)
def test_masks_of_every_kind(tmp_path, mode, values, expected):
    mask = Image.fromarray(np.array([values], np.uint8))
    if mode == "P":
        mask.putpalette([0, 0, 0, 9, 0, 0, 0, 9, 0])
    (mask.convert("RGB") if mode == "RGB" else mask).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").astype(int).tolist() == [expected]


def test_what_is_transparent_is_no_object(tmp_path):
    values, alpha = np.array([[200, 200, 9]], np.uint8), np.array([[255, 0, 255]], np.uint8)
    for mode, channels in (("LA", (values, alpha)), ("RGBA", (values, values, values, alpha))):
        Image.merge(mode, [Image.fromarray(channel) for channel in channels]).save(tmp_path / "m.png")
        assert read_mask(tmp_path / "m.png").tolist() == [[True, False, False]]


def test_a_damaged_or_misfitting_image_is_skipped_and_named(tmp_path):
    for name in ("good", "torn", "wide"):
        write_pair(tmp_path, name)
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "torn.jpg").read_bytes()[:200])
    Image.new("L", (5, 5)).save(tmp_path / "wide.png")
    images = static_images(tmp_path)
    samples = [StaticImages(images, CONFIG).sample(number) for number in range(9)]
    for sample in samples:
        assert_is_sample(sample)
    skipped = [line for sample in samples for line in sample.skipped]
    assert any("torn.jpg" in line for line in skipped)
    assert any("wide.png is 5x5, its image 60x40" in line for line in skipped)
    strict = StaticImages(images, SamplingConfig(1, "3", 3, 32, strict=True))
    with pytest.raises(UserError, match=r"torn\.jpg|wide\.png"):
        [strict.sample(number) for number in range(3)]


# --- Videos -----------------------------------------------------------------------------------------------------------


def test_youtube_vos_uses_annotated_frames_and_a_fifth_of_the_jump(tmp_path):
    folder = tmp_path / "train_480p"
    for name in ("a", "b"):
        write_video(folder / "JPEGImages", folder / "Annotations", name, frames=31, annotated_every=5)
    videos = youtube_vos(tmp_path)
    assert [len(video.frames) for video in videos.videos] == [7, 7]
    assert videos.videos[0].frames[:3] == ("00000.jpg", "00005.jpg", "00010.jpg")
    for jump, widest in ((5, 1), (9, 1), (15, 3), (1, 1)):
        assert jumps_seen(TrainingVideos([videos], CONFIG), jump) == set(range(1, widest + 1))

    (tmp_path / "subset.txt").write_text("b\n")
    assert [video.images.name for video in youtube_vos(tmp_path, tmp_path / "subset.txt").videos] == ["b"]


def jumps_seen(source: TrainingVideos, jump: int) -> set[int]:
    """Distances between neighbouring frames, of those the source's videos have, in many samples."""
    seen: set[int] = set()
    video_type = type(source.entries[0].video)
    read = video_type.read

    def note(video, frames):
        frames = list(frames)
        seen.update(np.abs(np.diff(frames)).tolist())
        return read(video, frames)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_type, "read", note)
        for number in range(12):
            source.sample(number, jump)
    return seen


def test_davis_2017_uses_the_listed_videos_five_times(tmp_path):
    folder = tmp_path / "2017" / "trainval"
    for name in ("bear", "bike", "validation"):
        write_video(folder / "JPEGImages" / "480p", folder / "Annotations" / "480p", name)
    (folder / "ImageSets" / "2017").mkdir(parents=True)
    (folder / "ImageSets" / "2017" / "train.txt").write_text("bear\nbike\n")
    videos = davis_2017(tmp_path)
    assert [video.images.name for video in videos.videos] == ["bear", "bike"]
    entries = TrainingVideos([videos], CONFIG).entries
    assert sorted(entry.video.images.name for entry in entries) == ["bear"] * 5 + ["bike"] * 5


def test_davis_2016_has_one_object_of_255(tmp_path):
    for name in ("bear", "camel"):
        write_video(tmp_path / "JPEGImages" / "480p", tmp_path / "Annotations" / "480p", name, objects=(255,))
    (tmp_path / "ImageSets" / "480p").mkdir(parents=True)
    (tmp_path / "ImageSets" / "480p" / "train.txt").write_text(
        "".join(f"/JPEGImages/480p/bear/{f:05d}.jpg /Annotations/480p/bear/{f:05d}.png\n" for f in range(6))
    )
    assert [video.images.name for video in own_videos(tmp_path).videos] == ["bear"]
    (tmp_path / "subset.txt").write_text("camel\n")
    sample = TrainingVideos([own_videos(tmp_path, tmp_path / "subset.txt")], CONFIG).sample(0, 5)
    assert_is_sample(sample)
    assert sample.objects == 1


@pytest.mark.parametrize(
    ("labels", "objects"),
    [([(1, 255), (255,), (255,)], {1}), ([(255,), (1, 255), (255,)], {1, 255}), ([(), (2,), (255,)], {2})],
)
def test_the_first_label_map_with_an_object_decides_what_255_is(tmp_path, labels, objects):
    write_video(tmp_path / "JPEGImages", tmp_path / "Annotations", "a", frames=3)
    for frame, of_frame in enumerate(labels):
        write_mask(tmp_path / f"Annotations/a/{frame:05d}.png", of_frame)
    (video,) = own_videos(tmp_path).videos
    assert set(np.unique(video.read([0, 1, 2])[1])) == objects | {0}
    assert 255 in objects or not video.read([2])[1].any()


def test_bl30k_is_cropped_more_and_not_sheared(tmp_path):
    videos = bl30k(write_generic(tmp_path))
    assert (videos.smallest_crop, videos.frame_affine, videos.drop_specks) == (0.25, False, True)
    assert_is_sample(TrainingVideos([videos], CONFIG).sample(0, 5))


def test_fine_tuning_leaves_frames_as_they_are(tmp_path):
    videos = [own_videos(write_generic(tmp_path, ("a",)))]

    def changes(finetune: bool) -> list[bool]:
        source = TrainingVideos(videos, CONFIG, finetune)
        labels = [source.sample(number, 5).labels for number in range(3)]
        return [bool((label != label[0]).any()) for label in labels]

    # All masks of the video are alike.
    assert changes(finetune=True) == [False] * 3
    assert changes(finetune=False) == [True] * 3


def test_an_object_of_another_clip_is_pasted_onto_a_clip_as_one_more_object(tmp_path):
    videos = own_videos(write_generic(tmp_path, ("a", "b"), objects=(1,)))
    plain, pasted = (
        TrainingVideos([replace(videos, paste_share=share)], SamplingConfig(1, "3", 3, 32)) for share in (0.0, 1.0)
    )
    samples = [pasted.sample(number, 5) for number in range(10)]
    for sample in samples:
        assert_is_sample(sample)
    assert max(sample.objects for sample in samples) == 2
    assert {plain.sample(number, 5).objects for number in range(10)} == {1}


def test_an_object_that_is_pasted_onto_a_clip_hides_what_is_behind_it():
    rng = np.random.default_rng(0)
    below, above = (torch.from_numpy(rng.integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)) for _ in range(2))
    labels, masks = torch.ones(2, 16, 16, dtype=torch.uint8), torch.zeros(2, 16, 16, dtype=torch.uint8)
    masks[:, 4:12, 4:12], masks[:, :2] = 7, 3
    images, both = pasted_onto((below, labels), (above, masks), label=7, new_label=2)
    assert torch.equal(both, torch.where(masks == 7, 2, labels))
    inside, edge = masks == 7, torch.zeros(16, 16, dtype=torch.bool)
    edge[3:13, 3:13], edge[5:11, 5:11] = True, False
    assert torch.equal(images[:, :, 5:11, 5:11], above[:, :, 5:11, 5:11])
    outside = (~inside[0] & ~edge).expand(2, 3, 16, 16)
    assert torch.equal(images[outside], below[outside])


@pytest.mark.parametrize("seed", range(10))
def test_an_object_that_is_moved_past_another_hides_it_and_goes_on(seed):
    pictures = torch.full((7, 3, 64, 64), 200, dtype=torch.uint8)
    below, above = torch.zeros(7, 64, 64, dtype=torch.uint8), torch.zeros(7, 64, 64, dtype=torch.uint8)
    below[:, 20:28, 30:38] = 4
    above[:, 50:60, 5:15], above[:, :5] = 9, 3
    images, labels = moved_past((pictures, above), 9, (pictures, below), 4, np.random.default_rng(seed))
    assert set(labels.unique().tolist()) == {0, 9}, "other objects of the upper clip are not moved"
    covered = [bool((labels[number][below[number] == 4] == 9).all()) for number in range(7)]
    touched = [bool((labels[number][below[number] == 4] == 9).any()) for number in range(7)]
    assert any(covered[1:6])
    assert not touched[0] or not touched[6]
    assert (images.permute(0, 2, 3, 1)[labels == 9] > 150).all(), "the object's picture moves with its mask"


def test_an_object_that_is_not_there_is_passed_by_nothing():
    clip = (torch.zeros(3, 3, 16, 16, dtype=torch.uint8), torch.ones(3, 16, 16, dtype=torch.uint8))
    assert moved_past(clip, 1, clip, 2, np.random.default_rng(0)) is clip


def test_colours_of_few_videos_can_be_changed_further(tmp_path):
    videos = own_videos(write_generic(tmp_path, ("a",)))

    def spread(jitter: float) -> float:
        source = TrainingVideos([replace(videos, colour_jitter=jitter)], CONFIG)
        return float(np.std([source.sample(number, 5).images.float().mean() for number in range(30)]))

    assert spread(0.3) > 2 * spread(0.0)


def test_a_mixture_shows_each_video_as_often_as_its_set_says(tmp_path):
    few = own_videos(write_generic(tmp_path / "few", ("a",)))
    many = own_videos(write_generic(tmp_path / "many", ("b", "c", "d")))
    source = TrainingVideos([many, type(few)("few", few.videos, repeats=5)], CONFIG)
    names = [entry.video.images.name for entry in source.entries]
    assert {name: names.count(name) for name in "abcd"} == {"a": 5, "b": 1, "c": 1, "d": 1}


def test_at_most_three_objects_are_chosen_and_not_always_the_same(tmp_path):
    source = TrainingVideos(
        [own_videos(write_generic(tmp_path, ("a",), objects=(1, 2, 3, 4, 5)))], CONFIG, finetune=True
    )
    samples = [source.sample(number, 5) for number in range(12)]
    for sample in samples:
        assert_is_sample(sample)
    assert max(sample.objects for sample in samples) == 3
    shares = {round(float((sample.labels[0] > 0).float().mean()), 1) for sample in samples}
    assert len(shares) > 1
    assert (
        TrainingVideos([own_videos(tmp_path)], SamplingConfig(1, "3", 3, 32, max_objects=1)).sample(0, 5).objects == 1
    )


@pytest.mark.parametrize(
    ("sides", "speck"),
    [((10, 40, 40), True), ((11, 11, 19), False), ((11, 20, 11), True), ((11, 11, 20), True), ((31, 90, 90), False)],
)
def test_objects_that_are_small_only_at_first_are_specks(sides, speck):
    masks = np.zeros((3, 100, 100), bool)
    for mask, side in zip(masks, sides, strict=True):
        mask[:side, :side] = True
    assert is_speck(masks) == speck


def test_short_videos_are_skipped_and_counted_or_refused(tmp_path, caplog):
    write_generic(tmp_path, ("long",), frames=6)
    write_generic(tmp_path, ("short",), frames=2)
    with caplog.at_level(logging.WARNING):
        (left,) = long_enough([own_videos(tmp_path)], 3)
    assert "1 videos" in caplog.text
    assert [video.images.name for video in left.videos] == ["long"]
    with pytest.raises(UserError, match=r"1 videos have fewer than 3 annotated frames: .*short"):
        long_enough([own_videos(tmp_path)], 3, strict=True)
    with pytest.raises(UserError, match="fewer than 9"):
        long_enough([own_videos(tmp_path)], 9)


def test_synthetic_clips_show_objects_of_own_videos_and_images(tmp_path):
    write_generic(tmp_path / "videos", ("long",), frames=6, objects=(1, 2))
    write_generic(tmp_path / "videos", ("short",), frames=2)
    write_pair(tmp_path / "images", "a")
    stages = {name: replace(STAGES[name], num_frames=3, crop=32) for name in "sm"}
    images_alone = DataConfig(cutout_root=tmp_path / "images")
    both = replace(images_alone, videos_root=tmp_path / "videos", videos_share=0.0)
    for name, data, photographs in (("s", DataConfig(), 0), ("s", images_alone, 1), ("m", both, 6 + 1)):
        sources = open_stage_data(stages[name], data, seed=1)
        synthetic = sources.main.first if name == "m" else sources.main
        assert len(synthetic.photographs) == photographs
        assert ("own images" in sources.trained_on.data_sets) == ("own images" in sources.contents) == (photographs > 0)
        # The short one is no part of the clips, nor is anything cut out of it.
        assert sources.trained_on.videos == (("long",) if name == "m" else ())
        assert_is_sample(sources.main.sample(0, 5))
    with pytest.raises(UserError, match="nowhere does not exist; it has to be the folder above fss"):
        open_stage_data(stages["s"], DataConfig(cutout_root=tmp_path / "nowhere"), seed=1)


def test_frames_without_mask_are_listed_up_to_ten(tmp_path):
    write_generic(tmp_path, ("a",), frames=13, annotated_every=13)
    with pytest.raises(UserError, match=r"no mask for 12 frames: .*00001\.jpg.*00010\.jpg and 2 more$"):
        bl30k(tmp_path)


def test_own_videos_need_not_have_a_mask_for_every_frame(tmp_path, caplog):
    caplog.set_level("INFO")
    write_generic(tmp_path, ("a",), frames=13, annotated_every=4)
    (video,) = own_videos(tmp_path).videos
    assert video.frames == ("00000.jpg", "00004.jpg", "00008.jpg", "00012.jpg")
    assert video.positions == (0, 4, 8, 12)
    assert "clips leave out 9 frames, which have no mask" in caplog.text


def test_masks_under_other_names_are_named_with_a_remedy(tmp_path):
    write_generic(tmp_path, ("a",))
    for path in (tmp_path / "Annotations/a").iterdir():
        path.rename(path.with_suffix(".PNG"))
    with pytest.raises(UserError, match=r"Annotations/a holds no 00000\.png, .* scripts.convert --to labels makes"):
        own_videos(tmp_path)


def test_two_images_of_one_name_are_named(tmp_path):
    write_generic(tmp_path, ("a",))
    write_image(tmp_path / "JPEGImages/a/00002.png")
    with pytest.raises(UserError, match=r"JPEGImages/a holds several images of one name"):
        own_videos(tmp_path)


def test_an_empty_root_a_missing_video_and_an_empty_list_are_named(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(UserError, match="holds no video"):
        own_videos(tmp_path)
    (tmp_path / "subset.txt").write_text("nowhere\n")
    with pytest.raises(UserError, match="lacks 1 videos: nowhere"):
        own_videos(tmp_path, tmp_path / "subset.txt")
    write_generic(tmp_path / "train_480p")
    (tmp_path / "subset.txt").write_text("\n")
    with pytest.raises(UserError, match="names no video"):
        youtube_vos(tmp_path, tmp_path / "subset.txt")


def test_masks_that_are_no_label_maps_are_named_at_once(tmp_path):
    write_generic(tmp_path)
    write_image(tmp_path / "Annotations" / "b" / "00000.png")
    with pytest.raises(UserError, match=r"b/00000\.png is an RGB image"):
        own_videos(tmp_path)


def test_a_damaged_frame_is_skipped_and_named_or_raised_when_strict(tmp_path):
    write_generic(tmp_path)
    for frame in (tmp_path / "JPEGImages" / "a").iterdir():
        frame.write_bytes(frame.read_bytes()[:200])
    videos = [own_videos(tmp_path)]
    samples = [TrainingVideos(videos, CONFIG).sample(number, 5) for number in range(2)]
    for sample in samples:
        assert_is_sample(sample)
    assert any("JPEGImages/a" in line for sample in samples for line in sample.skipped)
    strict = TrainingVideos(videos, SamplingConfig(1, "3", 3, 32, strict=True))
    with pytest.raises(UserError, match="JPEGImages/a"):
        [strict.sample(number, 5) for number in range(2)]


def test_frames_of_different_sizes_are_named(tmp_path):
    write_generic(tmp_path, ("a",), frames=3)
    Image.new("RGB", (20, 20)).save(tmp_path / "JPEGImages" / "a" / "00001.jpg")
    with pytest.raises(UserError, match=r"00001\.jpg: its mask, or another frame"):
        TrainingVideos([own_videos(tmp_path)], SamplingConfig(1, "3", 3, 32, strict=True)).sample(0, 5)


def test_real_videos(shared, tmp_path):
    subset = tmp_path / "subset.txt"
    subset.write_text("camel\nlibby\n")
    source = TrainingVideos([own_videos(shared / "DAVIS" / "2016", subset)], SamplingConfig(0, "3", 4, 96))
    for number in range(2):
        sample = source.sample(number, 10)
        assert_is_sample(sample, frames=4, size=96)
        # Photographs are neither flat nor noise.
        assert 20 < sample.images.float().std() < 90
