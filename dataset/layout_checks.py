"""Whether the data sets lie where evaluation and training look for them, and where to get those that do not.

A set is opened as evaluation or training opens it, so what is found to be right here works there. Images are not
decoded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset.evaluation_sets import open_evaluation_set
from dataset.frames import folder_entries
from dataset.resize import SOURCE, TARGET, train_videos
from util.errors import UserError

DAVIS_PAGE = "https://davischallenge.org"
YOUTUBE_VOS_PAGE = "https://youtube-vos.org"
STATIC_PAGES = {
    "fss": "https://github.com/HKUSTCV/FSS-1000",
    "DUTS-TR": "http://saliencydetection.net/duts",
    "DUTS-TE": "http://saliencydetection.net/duts",
    "ecssd": "http://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html",
    "BIG_small": "https://github.com/hkchengrex/CascadePSP",
    "HRSOD_small": "https://github.com/hkchengrex/CascadePSP",
}


@dataclass(frozen=True)
class LayoutReport:
    """What was found of a data set; `videos` is None for sets of single images."""

    videos: int | None = None
    frames: int = 0
    problems: tuple[str, ...] = ()
    """What is missing or does not fit together, one line each."""


@dataclass(frozen=True)
class DataSet:
    """A data set, or a part of it that is got and used by itself.

    Attributes:
        name: as `--dataset` of eval.py has it where it is one for evaluation.
        flag: the flag of eval.py or train.py that says where its root is.
        default_root: where that is without the flag; None: the flag has to be given.
        page: where the set is to be had.
        open: lists its files; raises UserError where it cannot be used at all.
        optional: is not looked for unless it is named.
    """

    name: str
    flag: str
    default_root: Path | None
    page: str
    open: Callable[[Path], LayoutReport]
    optional: bool = False

    def check(self, root: Path) -> LayoutReport:
        """What lies below `root`."""
        try:
            return self.open(root)
        except UserError as error:
            return LayoutReport(problems=(str(error),))


def _evaluation_set(name: str, flag: str, default_root: str | None, page: str, split: str = "val") -> DataSet:
    def open_set(root: Path) -> LayoutReport:
        videos = open_evaluation_set(name, split, root, 480).videos
        problems = tuple(f"{video.name}: {video.problem}" for video in videos if video.problem)
        frames = sum(video.frames.frame_count or 0 for video in videos)
        return LayoutReport(len(videos) - len(problems), frames, problems)

    return DataSet(
        name if split == "val" else f"{name}-{split}",
        flag,
        None if default_root is None else Path(default_root),
        page,
        open_set,
        optional=split != "val",
    )


# PyTorch, which training's modules need, takes seconds to import: those that do not check training data do without.


def _bl30k(root: Path) -> LayoutReport:
    from dataset.training_videos import bl30k

    return _report_on(bl30k(root).videos)


def _davis(root: Path) -> LayoutReport:
    from dataset.training_videos import davis_2017

    return _report_on(davis_2017(root).videos)


def _youtube_vos(root: Path) -> LayoutReport:
    """YouTubeVOS for training, with all videos that were there before they were resized."""
    from dataset.training_videos import youtube_vos

    if (root / SOURCE).is_dir():
        made = root / TARGET / "JPEGImages"
        there = {path.name for path in folder_entries(made)} if made.is_dir() else set()
        if lacking := [name for name in train_videos(root) if name not in there]:
            raise UserError(
                f"{root / TARGET} lacks {len(lacking)} of the videos in {root / SOURCE}, the first is {lacking[0]}; "
                f"python -m scripts.prepare_data resize --yv_root {root} makes them"
            )
    return _report_on(youtube_vos(root).videos)


def _report_on(videos: Sequence[Any]) -> LayoutReport:
    """Of TrainingVideos."""
    problems = tuple(f"{video.images.name}: none of its frames has a mask" for video in videos if not video.frames)
    return LayoutReport(len(videos) - len(problems), sum(len(video.frames) for video in videos), problems)


def _static_images(name: str) -> DataSet:
    def open_set(root: Path) -> LayoutReport:
        from dataset.static_images import SETS_WITH_CLASS_FOLDERS, images_with_masks

        folder, inside = root / name, ""
        folders = [folder]
        if name in SETS_WITH_CLASS_FOLDERS:
            folders, inside = [path for path in folder_entries(folder) if path.is_dir()], "CLASS/"
        pairs = images_with_masks(folders)
        if not pairs:
            raise UserError(f"{folder} holds no {inside}X.jpg with its mask {inside}X.png beside it")
        return LayoutReport(frames=len(pairs))

    return DataSet(name, "static_root", Path("../static"), STATIC_PAGES[name], open_set)


DATA_SETS = (
    _evaluation_set("D16", "d16_path", "../DAVIS/2016", DAVIS_PAGE),
    _evaluation_set("D17", "d17_path", "../DAVIS/2017", DAVIS_PAGE),
    _evaluation_set("D17", "d17_path", "../DAVIS/2017", DAVIS_PAGE, split="test"),
    _evaluation_set("Y18", "y18_path", "../YouTube2018", YOUTUBE_VOS_PAGE),
    _evaluation_set("Y18", "y18_path", "../YouTube2018", YOUTUBE_VOS_PAGE, split="test"),
    _evaluation_set("Y19", "y19_path", "../YouTube", YOUTUBE_VOS_PAGE),
    _evaluation_set("Y19", "y19_path", "../YouTube", YOUTUBE_VOS_PAGE, split="test"),
    _evaluation_set("LV1", "lv_path", "../long_video_set", "https://github.com/xmlyqing00/AFB-URR"),
    _evaluation_set("LV3", "lv_path", "../long_video_set", "https://github.com/xmlyqing00/AFB-URR"),
    _evaluation_set("MOSE", "mose_path", "../MOSE", "https://henghuiding.github.io/MOSE/"),
    _evaluation_set("G", "generic_path", None, "your own videos (docs/evaluation.md has the layout)"),
    *(_static_images(name) for name in STATIC_PAGES),
    DataSet("BL30K", "bl_root", Path("../BL30K"), "https://github.com/hkchengrex/MiVOS", _bl30k),
    DataSet("YouTubeVOS", "yv_root", Path("../YouTube"), YOUTUBE_VOS_PAGE, _youtube_vos),
    DataSet("DAVIS", "davis_root", Path("../DAVIS"), DAVIS_PAGE, _davis),
)
"""For evaluation, then for training."""
