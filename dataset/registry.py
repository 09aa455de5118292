"""The data sets: what each is called and holds, where it lies, where to get it, and how it is opened.

A new data set is one entry here, and one function in `evaluation_sets.py` (`training_videos.py`) that knows its layout.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset.evaluation_sets import (
    EvaluationSet,
    EvaluationVideo,
    davis_2016,
    davis_2017,
    folder_of_videos,
    youtube_vos,
)
from dataset.frames import MissingError, require_folder
from dataset.resize import require_resized
from util.errors import UserError

DAVIS_PAGE = "https://davischallenge.org"
YOUTUBE_VOS_PAGE = "https://youtube-vos.org"
LONG_VIDEO_PAGE = "https://github.com/xmlyqing00/AFB-URR"
DUTS_PAGE = "http://saliencydetection.net/duts"
CASCADE_PSP_PAGE = "https://github.com/hkchengrex/CascadePSP"


@dataclass(frozen=True)
class Contents:
    """What lies in a data set's root; `videos` is None for sets of single images."""

    videos: int | None = None
    frames: int = 0
    problems: tuple[str, ...] = ()
    """What is missing or does not fit together, one line each."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a data set before it is opened.

    Attributes:
        name: what users call the set by.
        title: its name for readers.
        page: where to get it.
        root_name: name of the setting (and flag) that says where its root is; sets may share one.
        root_holds: what the root has to be, "the folder above ...".
        default_root: where the root is unless the setting is given; None: it has to be given.
    """

    name: str
    title: str
    page: str
    root_name: str
    root_holds: str
    default_root: Path | None

    def missing(self, error: MissingError) -> UserError:
        """The error with what the root has to be as its remedy."""
        return UserError(f"{error}; the root of {self.name} is {self.root_holds}")


@dataclass(frozen=True, kw_only=True)
class DataSet(Entry):
    """A data set for evaluation; `name` is that of `--dataset`.

    Attributes:
        layout: lists the videos of (root, split, sizes).
        splits: of "val" and "test", those that the set has.
        server_splits: the splits that an evaluation server scores, which takes a zip file.
        masks_folder: the folder around V/FRAME.png that the server expects: "" or "Annotations".
        at_own_size: frames are not resized, as published.
        is_davis: the set shares videos with DAVIS; some of its validation videos trained the bundled network.
    """

    layout: Callable[[Path, str, Sequence[int]], tuple[EvaluationVideo, ...]]
    splits: tuple[str, ...] = ("val",)
    server_splits: tuple[str, ...] = ()
    masks_folder: str = ""
    at_own_size: bool = False
    is_davis: bool = False

    def open(self, root: Path, split: str, sizes: Sequence[int]) -> EvaluationSet:
        """The videos of a split that lie in `root`.

        Args:
            sizes: shorter sides at which frames are segmented, at least one, −1 for the original; DAVIS has its frames
                in several sizes.

        Raises:
            UserError: there is no such split, or a file or folder that the whole set needs is missing or damaged.
        """
        if split not in self.splits:
            raise UserError(f"split {split}: {self.name} has no such split, only {' and '.join(self.splits)}")
        try:
            videos = self.layout(require_folder(root), split, sizes)
        except MissingError as error:
            raise self.missing(error) from error
        return EvaluationSet(self.name, videos, split in self.server_splits, self.masks_folder)

    def contents(self, root: Path, split: str) -> Contents:
        """What lies in `root` of a split, opened at 480 pixels."""
        try:
            videos = self.open(root, split, [480]).videos
        except UserError as error:
            return Contents(problems=(str(error),))
        problems = tuple(f"{video.name}: {video.problem}" for video in videos if video.problem)
        frames = sum(video.frames.frame_count or 0 for video in videos)
        return Contents(len(videos) - len(problems), frames, problems)


@dataclass(frozen=True, kw_only=True)
class TrainingSet(Entry):
    """A data set for training, or a part of one that is downloaded by itself.

    Attributes:
        list_contents: lists the files in a root; raises UserError where the set cannot be used at all.
    """

    list_contents: Callable[[Path], Contents]

    def contents(self, root: Path) -> Contents:
        """What lies in `root`."""
        try:
            return self.list_contents(require_folder(root))
        except MissingError as error:
            return Contents(problems=(str(self.missing(error)),))
        except UserError as error:
            return Contents(problems=(str(error),))


def open_evaluation_set(dataset: str, split: str, root: Path, *sizes: int) -> EvaluationSet:
    """The data set named `dataset`, opened as by `DataSet.open`.

    Raises:
        UserError: there is no such data set; or as `DataSet.open`.
    """
    if dataset not in DATA_SETS:
        raise UserError(f"dataset {dataset}: there is {', '.join(DATA_SETS)}")
    return DATA_SETS[dataset].open(root, split, sizes)


def by_name(*entries: Any) -> Mapping[str, Any]:
    return {entry.name: entry for entry in entries}


def _youtube_vos(year: str, name: str, default_root: str) -> DataSet:
    return DataSet(
        name=name,
        title=f"YouTubeVOS {year}",
        page=YOUTUBE_VOS_PAGE,
        root_name=f"{name.lower()}_path",
        root_holds="the folder above all_frames, valid and test",
        default_root=Path(default_root),
        layout=youtube_vos,
        splits=("val", "test"),
        server_splits=("val", "test"),
        masks_folder="Annotations",
    )


def _long_video(name: str, title: str, folder: str) -> DataSet:
    return DataSet(
        name=name,
        title=title,
        page=LONG_VIDEO_PAGE,
        root_name="lv_path",
        root_holds="the folder above long_video and long_video_x3",
        default_root=Path("../long_video_set"),
        layout=lambda root, split, sizes: folder_of_videos(root / folder, save_masked_frames=True),
        at_own_size=True,
    )


DATA_SETS: Mapping[str, DataSet] = by_name(
    DataSet(
        name="D16",
        title="DAVIS 2016",
        page=DAVIS_PAGE,
        root_name="d16_path",
        root_holds="the folder with JPEGImages/480p, Annotations/480p and ImageSets/480p",
        default_root=Path("../DAVIS/2016"),
        layout=davis_2016,
        is_davis=True,
    ),
    DataSet(
        name="D17",
        title="DAVIS 2017",
        page=DAVIS_PAGE,
        root_name="d17_path",
        root_holds="the folder above trainval and test-dev",
        default_root=Path("../DAVIS/2017"),
        layout=davis_2017,
        splits=("val", "test"),
        server_splits=("test",),
        is_davis=True,
    ),
    _youtube_vos("2018", "Y18", "../YouTube2018"),
    _youtube_vos("2019", "Y19", "../YouTube"),
    _long_video("LV1", "Long-time Video", "long_video"),
    _long_video("LV3", "Long-time Video, three times as long", "long_video_x3"),
    DataSet(
        name="MOSE",
        title="MOSE",
        page="https://henghuiding.github.io/MOSE/",
        root_name="mose_path",
        root_holds="the folder above valid",
        default_root=Path("../MOSE"),
        layout=lambda root, split, sizes: folder_of_videos(root / "valid"),
    ),
    DataSet(
        name="G",
        title="your own videos",
        page="your own videos (docs/evaluation.md has the layout)",
        root_name="generic_path",
        root_holds="the folder with JPEGImages and Annotations",
        default_root=None,
        layout=lambda root, split, sizes: folder_of_videos(root),
    ),
)
"""Data sets for evaluation, by the name given to `--dataset`."""


# --- Training ---------------------------------------------------------------------------------------------------------

# PyTorch, which training's modules need, takes seconds to import: those that do not open training data do without.


def _contents_of_videos(videos: Sequence[Any]) -> Contents:
    problems = tuple(f"{video.images.name}: none of its frames has a mask" for video in videos if not video.frames)
    return Contents(len(videos) - len(problems), sum(len(video.frames) for video in videos), problems)


def _bl30k_contents(root: Path) -> Contents:
    from dataset.training_videos import bl30k

    return _contents_of_videos(bl30k(root).videos)


def _davis_contents(root: Path) -> Contents:
    from dataset.training_videos import davis_2017

    return _contents_of_videos(davis_2017(root).videos)


def _youtube_vos_contents(root: Path) -> Contents:
    from dataset.training_videos import youtube_vos

    require_resized(root)
    return _contents_of_videos(youtube_vos(root).videos)


def _static_images(name: str, title: str, page: str) -> TrainingSet:
    def list_contents(root: Path) -> Contents:
        from dataset.static_images import published_set

        return Contents(frames=len(published_set(root, name)))

    return TrainingSet(
        name=name,
        title=title,
        page=page,
        root_name="static_root",
        root_holds=f"the folder above {name}",
        default_root=Path("../static"),
        list_contents=list_contents,
    )


TRAINING_SETS: Mapping[str, TrainingSet] = by_name(
    _static_images("fss", "FSS-1000", "https://github.com/HKUSTCV/FSS-1000"),
    _static_images("DUTS-TR", "DUTS, training", DUTS_PAGE),
    _static_images("DUTS-TE", "DUTS, test", DUTS_PAGE),
    _static_images("ecssd", "ECSSD", "http://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html"),
    _static_images("BIG_small", "BIG", CASCADE_PSP_PAGE),
    _static_images("HRSOD_small", "HRSOD", CASCADE_PSP_PAGE),
    TrainingSet(
        name="BL30K",
        title="BL30K",
        page="https://github.com/hkchengrex/MiVOS",
        root_name="bl_root",
        root_holds="the folder above JPEGImages and Annotations",
        default_root=Path("../BL30K"),
        list_contents=_bl30k_contents,
    ),
    TrainingSet(
        name="YouTubeVOS",
        title="YouTubeVOS 2019, training",
        page=YOUTUBE_VOS_PAGE,
        root_name="yv_root",
        root_holds="the folder above train_480p",
        default_root=Path("../YouTube"),
        list_contents=_youtube_vos_contents,
    ),
    TrainingSet(
        name="DAVIS",
        title="DAVIS 2017, training",
        page=DAVIS_PAGE,
        root_name="davis_root",
        root_holds="the folder above 2017/trainval",
        default_root=Path("../DAVIS"),
        list_contents=_davis_contents,
    ),
)
"""Data sets for training, in the order of the stages."""
