"""The data sets: what each is called and holds, where it lies, where to get it, and how it is opened.

A new data set is one entry here, and one function that reads its layout, in `evaluation_sets.py`, `recent_sets.py` or
`training_sets.py`.
A new training set also needs a stage that trains on it (`training/config.py`, `training/data.py`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dataset import evaluation_sets, recent_sets, training_sets
from dataset.evaluation_sets import folder_of_videos
from dataset.evaluation_video import EvaluationSet, EvaluationVideo
from dataset.frames import MissingError, require_folder
from util.errors import UserError

DAVIS_PAGE = "https://davischallenge.org"
YOUTUBE_VOS_PAGE = "https://youtube-vos.org"
DUTS_PAGE = "http://saliencydetection.net/duts"
CASCADE_PSP_PAGE = "https://github.com/hkchengrex/CascadePSP"


@dataclass(frozen=True, kw_only=True)
class RegisteredSet:
    """What is known of a data set before it is opened.

    Attributes:
        name: what users call the set by.
        title: its name for readers.
        page: where to get it; None for users' own videos.
        root_name: the name of the setting (and flag) that says where its root is; sets may share a root.
        root_holds: what the root has to be: "the folder above ...".
        default_root: the root unless the setting is given; None: it has to be given.
    """

    name: str
    title: str
    page: str | None
    root_name: str
    root_holds: str
    default_root: Path | None

    @contextmanager
    def checked(self, root: Path | None, root_title: str) -> Iterator[Path]:
        """Give the block a root that exists; add what it has to be to errors about missing files and folders.

        Args:
            root_title: what the root is called in messages.

        Raises:
            UserError: `root` is None or no folder, or the block raises MissingError.
        """
        if root is None:
            raise UserError(f"{root_title} has no default: it has to be {self.root_holds}")
        try:
            yield require_folder(root)
        except MissingError as error:
            raise UserError(f"{error}; {root_title} is {self.root_holds}") from error


@dataclass(frozen=True, kw_only=True)
class DataSet(RegisteredSet):
    """A data set for evaluation.

    Attributes:
        layout: lists the videos, given the root, the split and the sizes.
        splits: which of "val" and "test" the set has.
        server_splits: the splits that an evaluation server scores; it takes a zip file.
        masks_folder: the folder around V/FRAME.png that the server expects: "" or "Annotations".
        at_own_size: by published convention, frames are not resized.
        is_davis: the set holds videos of DAVIS; the bundled network has seen some of those for validation.
        protocol: the rules by which it is scored, a name in `scoring/protocols.py`.
        truth: the folder with the ground truth of a split, as this protocol expects it; None where there is none.
    """

    layout: Callable[[Path, str, Sequence[int]], tuple[EvaluationVideo, ...]]
    splits: tuple[str, ...] = ("val",)
    server_splits: tuple[str, ...] = ()
    masks_folder: str = ""
    at_own_size: bool = False
    is_davis: bool = False
    protocol: str = "davis"
    truth: Callable[[Path, str], Path | None] = lambda root, split: None

    def open(self, root: Path | None, split: str, sizes: Sequence[int]) -> EvaluationSet:
        """Open a split of the set that lies in `root`.

        Args:
            sizes: shorter sides at which frames are segmented, at least one, −1 for the original; DAVIS has its frames
                in several sizes.

        Raises:
            UserError: there is no such split or no root, or what the whole set needs is missing or damaged.
        """
        if split not in self.splits:
            raise UserError(f"split {split}: {self.name} has no such split, only {' and '.join(self.splits)}")
        with self.checked(root, f"the root of {self.name}") as folder:
            videos = self.layout(folder, split, sizes)
            truth = self.truth(folder, split)
        server_zip = split in self.server_splits
        return EvaluationSet(
            self.name, videos, server_zip, self.masks_folder if server_zip else "", self.protocol, truth
        )


@dataclass(frozen=True, kw_only=True)
class TrainingSet(RegisteredSet):
    """A data set for training, or a part of one that is downloaded by itself.

    Attributes:
        layout: lists the images or videos, given the root and, for some sets of videos, a subset.
    """

    layout: Callable[..., Any]

    def open(self, root: Path | None, subset: Path | None = None) -> Any:
        """Open the set that lies in `root`: a `VideoSet`, or a list of `ImageWithMask`.

        Args:
            subset: a text file that names the videos to use, one a line; None: all.

        Raises:
            UserError: there is no root, a file or folder is missing, or a mask is no label map.
        """
        with self.checked(root, self.root_name) as folder:
            return self.layout(folder) if subset is None else self.layout(folder, subset)


def open_evaluation_set(dataset: str, split: str, root: Path | None, *sizes: int) -> EvaluationSet:
    """Open the data set that is named `dataset`.

    Raises:
        UserError: there is no such data set; or as `DataSet.open`.
    """
    if dataset not in DATA_SETS:
        raise UserError(f"dataset {dataset}: there is {', '.join(DATA_SETS)}")
    return DATA_SETS[dataset].open(root, split, sizes)


# --- Evaluation -------------------------------------------------------------------------------------------------------

_youtube_vos = partial(
    DataSet,
    page=YOUTUBE_VOS_PAGE,
    root_holds="the folder above all_frames, valid and test",
    layout=evaluation_sets.youtube_vos,
    splits=("val", "test"),
    server_splits=("val", "test"),
    masks_folder="Annotations",
    protocol="youtube",
    truth=evaluation_sets.youtube_vos_truth,
)
_lvos = partial(
    DataSet,
    page="https://lingyihongfd.github.io/lvos.github.io/",
    root_holds="the folder above valid and test, with valid_meta.json in valid or beside it",
    layout=recent_sets.lvos,
    splits=("val", "test"),
    masks_folder="Annotations",
    protocol="lvos",
    truth=lambda root, split: root if split == "val" else None,
)
_vost = partial(
    DataSet,
    page="https://www.vostdataset.org",
    root_name="vost_path",
    root_holds="the folder with ImageSets, JPEGImages and Annotations, or above it (VOST)",
    default_root=Path("../VOST"),
    protocol="vost",
    truth=lambda root, split: recent_sets.vost_folder(root) if split == "val" else None,
)
_long_video = partial(
    DataSet,
    page="https://github.com/xmlyqing00/AFB-URR",
    root_name="lv_path",
    root_holds="the folder above long_video and long_video_x3",
    default_root=Path("../long_video_set"),
    at_own_size=True,
)

DATA_SETS: Mapping[str, DataSet] = {
    entry.name: entry
    for entry in (
        DataSet(
            name="D16",
            title="DAVIS 2016",
            page=DAVIS_PAGE,
            root_name="d16_path",
            root_holds="the folder with JPEGImages/480p, Annotations/480p and ImageSets/480p",
            default_root=Path("../DAVIS/2016"),
            layout=evaluation_sets.davis_2016,
            is_davis=True,
        ),
        DataSet(
            name="D17",
            title="DAVIS 2017",
            page=DAVIS_PAGE,
            root_name="d17_path",
            root_holds="the folder above trainval and test-dev",
            default_root=Path("../DAVIS/2017"),
            layout=evaluation_sets.davis_2017,
            splits=("val", "test"),
            server_splits=("test",),
            is_davis=True,
        ),
        _youtube_vos(name="Y18", title="YouTubeVOS 2018", root_name="y18_path", default_root=Path("../YouTube2018")),
        _youtube_vos(name="Y19", title="YouTubeVOS 2019", root_name="y19_path", default_root=Path("../YouTube")),
        _long_video(
            name="LV1",
            title="Long-time Video",
            layout=lambda root, split, sizes: folder_of_videos(root / "long_video", save_masked_frames=True),
        ),
        _long_video(
            name="LV3",
            title="Long-time Video, three times as long",
            layout=lambda root, split, sizes: folder_of_videos(root / "long_video_x3", save_masked_frames=True),
        ),
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
            name="MOSE2",
            title="MOSEv2",
            page="https://mose.video",
            root_name="mose2_path",
            root_holds="the folder above valid, with meta_valid.json beside it",
            default_root=Path("../MOSEv2"),
            layout=recent_sets.mose2,
            server_splits=("val",),
            protocol="mose2",
            truth=recent_sets.mose2_truth,
        ),
        _lvos(
            name="LVOS1",
            title="LVOS v1",
            root_name="lvos1_path",
            default_root=Path("../LVOS_V1"),
            server_splits=("test",),
        ),
        _lvos(name="LVOS2", title="LVOS v2", root_name="lvos2_path", default_root=Path("../LVOS_V2")),
        _vost(name="VOST", title="VOST, 5 frames per second", layout=recent_sets.vost),
        _vost(
            name="VOST10",
            title="VOST, 10 frames per second",
            layout=partial(recent_sets.vost, images="JPEGImages_10fps"),
        ),
        DataSet(
            name="SAV",
            title="SA-V",
            page="https://ai.meta.com/datasets/segment-anything-video/",
            root_name="sav_path",
            root_holds="the folder above sav_val and sav_test",
            default_root=Path("../SA-V"),
            layout=recent_sets.sav,
            splits=("val", "test"),
            protocol="sav",
            truth=recent_sets.sav_folder,
        ),
        DataSet(
            name="G",
            title="your own videos",
            page=None,
            root_name="generic_path",
            root_holds="the folder with JPEGImages and Annotations",
            default_root=None,
            layout=lambda root, split, sizes: folder_of_videos(root, from_first_object=True),
        ),
    )
}
"""Data sets for evaluation, by the name that `--dataset` gives."""


# --- Training ---------------------------------------------------------------------------------------------------------


def _images(name: str, title: str, page: str) -> TrainingSet:
    return TrainingSet(
        name=name,
        title=title,
        page=page,
        root_name="static_root",
        root_holds=f"the folder above {name}",
        default_root=Path("../static"),
        layout=partial(training_sets.published_images, name=name),
    )


TRAINING_SETS: Mapping[str, TrainingSet] = {
    entry.name: entry
    for entry in (
        _images("fss", "FSS-1000", "https://github.com/HKUSTCV/FSS-1000"),
        _images("DUTS-TR", "DUTS, training", DUTS_PAGE),
        _images("DUTS-TE", "DUTS, test", DUTS_PAGE),
        _images("ecssd", "ECSSD", "http://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html"),
        _images("BIG_small", "BIG", CASCADE_PSP_PAGE),
        _images("HRSOD_small", "HRSOD", CASCADE_PSP_PAGE),
        TrainingSet(
            name="BL30K",
            title="BL30K",
            page="https://github.com/hkchengrex/MiVOS",
            root_name="bl_root",
            root_holds="the folder above JPEGImages and Annotations",
            default_root=Path("../BL30K"),
            layout=training_sets.bl30k,
        ),
        TrainingSet(
            name="YouTubeVOS",
            title="YouTubeVOS 2019, training",
            page=YOUTUBE_VOS_PAGE,
            root_name="yv_root",
            root_holds="the folder above train_480p",
            default_root=Path("../YouTube"),
            layout=training_sets.youtube_vos,
        ),
        TrainingSet(
            name="DAVIS",
            title="DAVIS 2017, training",
            page=DAVIS_PAGE,
            root_name="davis_root",
            root_holds="the folder above 2017/trainval",
            default_root=Path("../DAVIS"),
            layout=training_sets.davis_2017,
        ),
        TrainingSet(
            name="own",
            title="your own videos",
            page=None,
            root_name="videos_root",
            root_holds="the folder above JPEGImages and Annotations",
            default_root=None,
            layout=training_sets.own_videos,
        ),
    )
}
"""Data sets for training, in the order of the stages."""
