"""The data on which the tables are measured: the paper's data sets, or small ones that can be had anywhere."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from zlib import crc32

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dataset.back_and_forth import repeat_videos, turning_order
from dataset.evaluation_video import EvaluationSet
from dataset.label_map import read_label_map, write_label_map
from dataset.registry import open_evaluation_set
from dataset.synthetic.long_video import long_video
from evaluation.validation import chosen_videos
from inference.images import PUBLISHED_SIZE, network_size
from util.errors import UserError
from util.painting import davis_palette

JPEG_QUALITY = 95
GENERATOR = 2
"""To be counted up when the generator makes other videos of the same arguments, so that they are made again."""

ImageAndLabels = tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]


class CannotRunError(UserError):
    """Data, weights or time that a run needs and does not have; its cells say so, and other runs continue."""


class GeneratedVideo(NamedTuple):
    """A video of the repository's own generator, 16:9; the same everywhere, as long as `GENERATOR` is."""

    name: str
    seed: int
    frames: int
    objects: int
    patterns: int = 96
    distractors: int = 0
    change: float = 1.0


@dataclass(frozen=True)
class MadeVideos:
    """Long videos that are made here.

    Attributes:
        davis: sequences of DAVIS 2016 that are played back and forth, and the number of frames of the result.
        generated: videos of the generator.
    """

    davis: Mapping[str, int] = field(default_factory=dict)
    generated: tuple[GeneratedVideo, ...] = ()

    def write(self, data_root: Path, target: Path, size: int) -> None:
        """Write them into `target`, in the layout of G, at a shorter side of `size` pixels.

        Raises:
            CannotRunError: DAVIS 2016 or one of the sequences is not there.
        """
        for name, length in self.davis.items():
            frames = read_sequence(data_root, name, size)
            write_video(target, name, (frames[index] for index in turning_order(len(frames), length)))
        for name, seed, length, objects, patterns, distractors, change in self.generated:
            made = long_video(seed, length, size, 16 * size // 9, objects, patterns, distractors, change)
            write_video(target, name, made)


@dataclass(frozen=True)
class ProfileDataSet:
    """Videos, and how they are followed.

    Attributes:
        name: the folder of its runs.
        title: its name for people.
        layout: the name of a data set for evaluation (`dataset/registry.py`).
        folder: its place below the data root, or below the folder of made sets.
        split: "val" or "test".
        size: shorter side in pixels at which frames are segmented; −1: their own.
        repeat: how many times as long the videos are, played back and forth.
        settings: settings of inference that the paper, or the profile, has for it.
        prototype_scale: factor of every P, so that small frames are compressed as much as those of 480p.
        videos: the names of those that are used; None: all.
        made: what it consists of, if it is made here.
    """

    name: str
    title: str
    layout: str
    folder: str
    split: str = "val"
    size: int = PUBLISHED_SIZE
    repeat: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    prototype_scale: float = 1.0
    videos: tuple[str, ...] | None = None
    made: MadeVideos | None = None

    def root(self, data_root: Path, made_root: Path) -> Path:
        """Return its folder; a set that is made of something else has another one."""
        if self.made:
            return made_root / f"{self.folder}-{crc32(repr((GENERATOR, self.size, self.made)).encode()):08x}"
        return data_root / self.folder

    def open(self, data_root: Path, made_root: Path, sizes: Iterable[int] = ()) -> EvaluationSet:
        """Return its videos, to be segmented at its own size and at `sizes`; make it first if that has to be done.

        Raises:
            CannotRunError: it, or what it is made of, is not there, or not as it should be.
        """
        root = self.root(data_root, made_root)
        if self.made and not root.is_dir():
            made_root.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=f".{root.name}-", dir=made_root) as unfinished:
                self.made.write(data_root, Path(unfinished) / "set", self.size)
                if not root.is_dir():  # another process may have made it meanwhile
                    (Path(unfinished) / "set").replace(root)
        if not root.is_dir():
            raise CannotRunError(f"data: {self.title}, looked for in {self.folder} below the data root")
        try:
            evaluation_set = open_evaluation_set(self.layout, self.split, root, *dict.fromkeys((self.size, *sizes)))
            evaluation_set = replace(evaluation_set, videos=tuple(chosen_videos(evaluation_set.videos, self.videos)))
            return repeat_videos(evaluation_set, self.repeat)
        except UserError as error:
            raise CannotRunError(f"data: {error}") from error


def read_sequence(data_root: Path, name: str, size: int) -> list[ImageAndLabels]:
    """Read a sequence of DAVIS 2016 at a shorter side of `size`: pixels averaged, labels the nearest ones.

    Raises:
        CannotRunError: it is not there.
    """
    davis = ProfileDataSet("davis", "DAVIS 2016", "D16", "DAVIS/2016", size=size, videos=(name,))
    (video,) = davis.open(data_root, data_root).videos
    if video.problem:
        raise CannotRunError(f"data: {video.problem}")
    if video.ground_truth is None:
        raise CannotRunError(f"data: DAVIS 2016 does not have a label map for every frame of {name}")
    try:
        pairs = [(frame.rgb, read_label_map(video.ground_truth[frame.name]).labels) for frame in video.frames]
    except UserError as error:
        raise CannotRunError(f"data: {error}") from error
    height, width = pairs[0][1].shape
    height, width = network_size(height, width, size)
    return [
        (
            cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA),
            cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST),
        )
        for rgb, labels in pairs
    ]


def write_video(target: Path, name: str, frames: Iterable[ImageAndLabels]) -> None:
    """Write JPEGImages/NAME/00000.jpg … and Annotations/NAME/00000.png … below `target`."""
    images, annotations = target / "JPEGImages" / name, target / "Annotations" / name
    for folder in (images, annotations):
        folder.mkdir(parents=True)
    for index, (rgb, labels) in enumerate(frames):
        Image.fromarray(rgb).save(images / f"{index:05d}.jpg", quality=JPEG_QUALITY)
        write_label_map(annotations / f"{index:05d}.png", labels, davis_palette())


@dataclass(frozen=True)
class Profile:
    """Data sets and sizes.

    Attributes:
        name: the name of the profile.
        statement: what a reader of the results has to know first of all.
        data_sets: by the names that the tables use, and "trace", the video that is traced frame by frame.
        lengths: n of the n× variants of Long-time Video in figure 7, whose data sets are named Lnx.
        scales: sizes of the multi-scale variants, as multiples of a data set's.
        traced_frames: the length of a trace.
        offsets: the most offsets of the memory insertion with which a row is run on long videos.
        over_offsets: the long videos that are run with several; None: all of them.
    """

    name: str
    statement: str
    data_sets: Mapping[str, ProfileDataSet]
    lengths: tuple[int, ...]
    scales: tuple[float, ...] = (1.0, 1.25, 1.5)
    traced_frames: int = 2000
    offsets: int = 5
    over_offsets: tuple[str, ...] | None = None


def lengthened(data_set: ProfileDataSet, lengths: tuple[int, ...]) -> dict[str, ProfileDataSet]:
    """Return a data set played back and forth to n times its length, by the names L1x, L2x, …."""
    return {
        f"L{n}x": replace(data_set, name=f"{data_set.name}_{n}x", title=f"{data_set.title}, {n}×", repeat=n)
        for n in lengths
    }


def paper_profile() -> Profile:
    """Return the paper's data sets, at their default places below the data root."""
    lengths = (1, 2, 3, 4, 6, 8, 10)
    long = ProfileDataSet("long", "Long-time Video", "LV1", "long_video_set", size=-1, settings={"mem_every": 10})
    davis_2016 = ProfileDataSet("D16", "DAVIS 2016 val", "D16", "DAVIS/2016")
    davis_2017 = ProfileDataSet("D17", "DAVIS 2017 val", "D17", "DAVIS/2017")
    return Profile(
        name="paper",
        statement="",
        data_sets={
            "D16": davis_2016,
            "D17": davis_2017,
            "D17-test": ProfileDataSet("D17-test", "DAVIS 2017 test-dev", "D17", "DAVIS/2017", "test"),
            "D17-test-600": ProfileDataSet(
                "D17-test-600", "DAVIS 2017 test-dev, 600p", "D17", "DAVIS/2017", "test", 600
            ),
            "Y18": ProfileDataSet("Y18", "YouTubeVOS 2018 val", "Y18", "YouTube2018"),
            "Y19": ProfileDataSet("Y19", "YouTubeVOS 2019 val", "Y19", "YouTube"),
            "MOSE": ProfileDataSet("MOSE", "MOSE val", "MOSE", "MOSE"),
            "LVOS1": ProfileDataSet("LVOS1", "LVOS v1 val", "LVOS1", "LVOS_V1"),
            "LVOS1-test": ProfileDataSet("LVOS1-test", "LVOS v1 test", "LVOS1", "LVOS_V1", "test"),
            "LVOS2": ProfileDataSet("LVOS2", "LVOS v2 val", "LVOS2", "LVOS_V2"),
            "MOSE2": ProfileDataSet("MOSE2", "MOSEv2 val", "MOSE2", "MOSEv2"),
            "VOST": ProfileDataSet("VOST", "VOST val, 5 frames a second", "VOST", "VOST"),
            "VOST10": ProfileDataSet("VOST10", "VOST val, 10 frames a second", "VOST10", "VOST"),
            "SAV": ProfileDataSet("SAV", "SA-V val", "SAV", "SA-V"),
            "SAV-test": ProfileDataSet("SAV-test", "SA-V test", "SAV", "SA-V", "test"),
            **lengthened(long, lengths),
            "L3x": replace(long, name="long_3x", title="Long-time Video (3×)", layout="LV3"),
            "single": davis_2016,
            "multi": davis_2017,
            "trace": replace(long, name="trace", title="Long-time Video, 3×", repeat=3, settings={}),
        },
        lengths=lengths,
        traced_frames=7000,
    )


HELD_OUT = ("car-shadow", "cows", "dog", "drift-straight")
"""The sequences of DAVIS 2016 that the bundled network was not trained on."""


GENERATED = tuple(
    GeneratedVideo(f"generated_{seed}", seed, frames=165, objects=2, distractors=1 + seed % 2, change=1.5)
    for seed in range(3, 9)
)
"""Videos in which two objects leave and come back, change their size, turn and light, and are passed by others."""


def small_profile(size: int) -> Profile:
    """Return four sequences of DAVIS 2016 at a shorter side of `size`, and smaller long videos that are made here.

    Meant for two CPU cores and about an hour. T_max, T_min and r fill working memory so often that every long video, of
    165 frames at least, is consolidated ten times or more, and as strongly as frames of 480p with the published P. The
    bound on memory frames, of sparse insertion and the local window, is as tight as the paper's: one of five.
    """
    lengths, traced_frames = (1, 2, 3), 2000
    small = 16 * round(0.6 * size / 16)
    title = f"{len(HELD_OUT)} sequences of DAVIS 2016"
    davis = ProfileDataSet("davis", title, "D16", "DAVIS/2016", size=size, videos=HELD_OUT)
    traced = GeneratedVideo("trace", seed=2, frames=traced_frames, objects=1)
    elements = small // 16 * -(-16 * small // 9 // 16)  # of a frame of 16:9; one of 480p has 30 · 54
    long = ProfileDataSet(
        "long",
        f"{len(HELD_OUT) + len(GENERATED)} long videos, four made of DAVIS sequences and {len(GENERATED)} generated",
        "G",
        f"long_{small}",
        size=small,
        settings={"mem_every": 5, "max_mid_term_frames": 6, "min_mid_term_frames": 3, "max_memory_frames": 8},
        prototype_scale=(6 - 3) * elements / ((10 - 5) * 30 * 54),
        made=MadeVideos(dict.fromkeys(HELD_OUT, 165), GENERATED),
    )
    multi = replace(
        long,
        name="generated",
        title="a generated video of two objects",
        folder=f"generated_{small}",
        settings={},
        prototype_scale=elements / (30 * 54),
        made=MadeVideos(generated=GENERATED[:1]),
    )
    trace = replace(
        long,
        name="trace",
        title=f"a generated video of {traced_frames} frames",
        folder=f"trace_{small}",
        # Half as many frames' worth as the paper's 10,000 at 480p, so that it is full in the middle of the video.
        settings={"max_long_term_elements": round(5_000 * elements / (30 * 54))},
        prototype_scale=elements / (30 * 54),
        made=MadeVideos(generated=(traced,)),
    )
    return Profile(
        name="small",
        statement=(
            f"These are figures of a small network on {title} at {size} pixels, and on videos made of them and by a "
            f"generator at {small} pixels. They cannot be compared with the published figures beside "
            "them, which are of the full network on whole data sets. Only the order of the variants can be "
            "compared."
        ),
        data_sets={
            "D16": davis,
            "D17": davis,
            **lengthened(long, lengths),
            "single": davis,
            "multi": multi,
            "trace": trace,
        },
        lengths=lengths,
        offsets=2,
        over_offsets=("L1x", "L3x"),
        traced_frames=traced_frames,
    )
