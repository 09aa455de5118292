"""Segment the videos of a data set, or one video file.

    python eval.py --dataset D17 --d17_path ../DAVIS/2017 --output ../output/d17
    python eval.py --video clip.mp4 --mask first.png --overlay
    torchrun --nproc_per_node=4 eval.py --dataset Y19

See docs/evaluation.md.
"""

import argparse
import errno
import logging
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from dataset.evaluation_sets import EvaluationSet, EvaluationVideo, open_evaluation_set
from dataset.video_file import VideoFile
from evaluation.config import VIDEO_FILE, EvaluationConfig
from evaluation.results import OutputFolder
from evaluation.run import Summary, pending_videos, segment_videos, summarise
from evaluation.sharing import Sharing
from inference.config import InferenceConfig
from model.network import XMem
from util.errors import UserError

DEFAULT_MODEL = Path("saves/XMem.pth")
RANDOM_WEIGHTS = "random weights, seed 0"

log = logging.getLogger("eval")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    defaults = InferenceConfig()
    parser = argparse.ArgumentParser(
        prog="eval.py", description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, help=f"network file (default: {DEFAULT_MODEL}; random weights if that is not there)")
    add("--d16_path", type=Path, default=Path("../DAVIS/2016"))
    add("--d17_path", type=Path, default=Path("../DAVIS/2017"))
    add("--y18_path", type=Path, default=Path("../YouTube2018"))
    add("--y19_path", type=Path, default=Path("../YouTube"))
    add("--lv_path", type=Path, default=Path("../long_video_set"))
    add("--mose_path", type=Path, default=Path("../MOSE"))
    add("--generic_path", type=Path, help="for --dataset G: a folder with JPEGImages/V and Annotations/V")
    add("--dataset", help="D16, D17, Y18, Y19, LV1, LV3, MOSE or G (default: D17)")
    add("--split", choices=("val", "test"), default="val")
    add("--video", type=Path, help="one video file instead of a data set")
    add("--mask", type=Path, help="for --video: the label map of its first frame")
    add("--output", type=Path, help="default: ../output/DATASET_SPLIT, or ../output/NAME for a video file")
    add("--overwrite", action="store_true", help="start anew in an output folder that holds results")
    add("--save_all", action="store_true", help="write every frame's mask, not just those to be scored")
    add("--save_scores", action="store_true", help="also write probabilities, for merging several runs")
    add("--overlay", action="store_true", help="also write a video with the masks painted over each frame")
    add("--flip", action="store_true", help="mirror the images, and the results back")
    add("--size", type=int, default=480, help="shorter side at which frames are segmented; -1: their own")
    add("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu")
    add("--amp", action="store_true", help="mixed precision where it is not on by default (it is on CUDA)")
    add("--benchmark", action="store_true", help="full precision, and every video is timed anew")
    add("--disable_long_term", action="store_true", help="working memory grows without bound instead")
    add("--max_mid_term_frames", type=int, default=defaults.max_mid_term_frames, help="T_max")
    add("--min_mid_term_frames", type=int, default=defaults.min_mid_term_frames, help="T_min")
    add("--max_long_term_elements", type=int, default=defaults.max_long_term_elements, help="LT_max")
    add("--num_prototypes", type=int, default=defaults.num_prototypes, help="P")
    add("--top_k", type=int, default=defaults.top_k, help="memory elements with weight per query; -1: all")
    add("--mem_every", type=int, default=defaults.mem_every, help="r; the paper: 10 on Long-time Video")
    add("--deep_update_every", type=int, default=defaults.deep_update_every, help="-1: with every memory frame")
    arguments = parser.parse_args(argv)
    if arguments.video is not None and arguments.dataset is not None:
        raise UserError("--video and --dataset contradict each other: give one of them")
    if arguments.benchmark and arguments.amp:
        raise UserError("--benchmark measures full precision and --amp asks for mixed: give one of them")
    return arguments


def choose_device(name: str, local_rank: int) -> torch.device:
    """The device a user named; "auto" and "cuda" take this process's own GPU.

    Raises:
        UserError: there is no such device here.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_there in available.items() if is_there)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: choose auto, cuda, cuda:N, mps or cpu") from None
    if not available.get(device.type, False):
        raise UserError(f"--device {name}: not available here (PyTorch {torch.__version__})")
    if device.type == "cuda":
        index = device.index if device.index is not None else local_rank % torch.cuda.device_count()
        if index >= torch.cuda.device_count():
            raise UserError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices here")
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    return device


def choose_network(model: Path | None, device: torch.device) -> tuple[XMem, str]:
    """The network a user named, or the default one; and what to call its weights."""
    if model is not None or DEFAULT_MODEL.is_file():
        path = model or DEFAULT_MODEL
        return XMem.from_checkpoint(path, device), str(path.resolve())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return XMem().to(device).eval(), RANDOM_WEIGHTS


def open_set(arguments: argparse.Namespace) -> tuple[EvaluationSet, Path]:
    """The videos to segment, and where they come from."""
    if arguments.video is not None:
        if arguments.mask is None:
            raise UserError("--video needs --mask: the label map of its first frame")
        if not arguments.mask.is_file():
            raise UserError(f"--mask {arguments.mask}: no such file")
        frames = VideoFile(arguments.video)
        first = next(iter(frames)).name
        video = EvaluationVideo(arguments.video.stem, frames, {first: arguments.mask}, saved_frames=None)
        return EvaluationSet(VIDEO_FILE, (video,)), arguments.video
    if arguments.mask is not None:
        raise UserError("--mask goes with --video; data sets have masks of their own")
    dataset = arguments.dataset or "D17"
    flag = {"Y18": "y18", "Y19": "y19", "LV1": "lv", "LV3": "lv", "G": "generic"}.get(dataset, dataset.lower())
    root = getattr(arguments, f"{flag}_path", Path())
    if dataset == "G" and root is None:
        raise UserError("--dataset G needs --generic_path: a folder with JPEGImages and Annotations")
    if dataset != "G" and arguments.generic_path is not None:
        raise UserError(f"--generic_path goes with --dataset G, not with {dataset}")
    return open_evaluation_set(dataset, arguments.split, root, arguments.size), root


def configure(
    arguments: argparse.Namespace, dataset: str, root: Path, weights: str, device: torch.device
) -> EvaluationConfig:
    try:
        inference = InferenceConfig(
            mem_every=arguments.mem_every,
            deep_update_every=arguments.deep_update_every,
            top_k=None if arguments.top_k == -1 else arguments.top_k,
            enable_long_term=not arguments.disable_long_term,
            max_mid_term_frames=arguments.max_mid_term_frames,
            min_mid_term_frames=arguments.min_mid_term_frames,
            num_prototypes=arguments.num_prototypes,
            max_long_term_elements=arguments.max_long_term_elements,
        )
    except ValueError as error:
        raise UserError(f"--{error}") from None
    return EvaluationConfig(
        dataset=dataset,
        root=root,
        weights=weights,
        split=arguments.split,
        mask=arguments.mask,
        size=arguments.size,
        flip=arguments.flip,
        mixed_precision=not arguments.benchmark and (arguments.amp or device.type == "cuda"),
        save_all=arguments.save_all,
        save_scores=arguments.save_scores,
        overlay=arguments.overlay,
        inference=inference,
    )


def report(summary: Summary, output: OutputFolder) -> None:
    """The run's figures, for people."""
    fps = f"{summary.fps:.2f} FPS" if summary.fps else "nothing timed"
    memory = f"process {summary.peak_process_bytes / 2**20:.0f} MiB"
    if summary.peak_device_bytes is not None:
        memory += f", device {summary.peak_device_bytes / 2**20:.0f} MiB"
    print(f"{summary.videos} videos, {summary.frames} frames, {fps}; peak memory: {memory}")
    if summary.scores:
        scores = summary.scores
        print(f"J&F {scores.j_and_f:.1f}  J {scores.j:.1f}  F {scores.f:.1f}")
    print(f"Results: {output.path}")
    for name, message in summary.failures.items():
        print(f"failed: {name}: {message}", file=sys.stderr)


def run(arguments: argparse.Namespace, sharing: Sharing) -> int:
    """One process's part of the run; the last to finish reports for all."""
    device = choose_device(arguments.device, sharing.local_rank)
    evaluation_set, root = open_set(arguments)
    network, weights = choose_network(arguments.model, device)
    config = configure(arguments, evaluation_set.name, root, weights, device)
    default_name = arguments.video.stem if arguments.video else f"{evaluation_set.name}_{arguments.split}"
    output = OutputFolder(
        arguments.output or Path("../output") / default_name,
        masks_folder="Annotations" if arguments.save_scores else evaluation_set.masks_folder,
    )
    if sharing.rank == 0:
        if weights == RANDOM_WEIGHTS:
            log.warning("no --model, and no %s: RANDOM WEIGHTS, the masks and scores mean nothing", DEFAULT_MODEL)
        output.claim(config.as_json(), arguments.overwrite)
        sharing.announce(pending_videos(evaluation_set.videos, output, anew=arguments.benchmark))
    pending = sharing.videos()

    frames = {video.name: video.frames.frame_count or 0 for video in evaluation_set.videos}
    with tqdm(
        total=sum(frames[name] for name in pending), unit="frame", disable=sharing.rank != 0, dynamic_ncols=True
    ) as bar:

        def show_progress(name: str, network_fps: float) -> None:
            bar.set_description(name, refresh=False)
            bar.set_postfix_str(f"{len(pending)} videos, network {network_fps:.1f} FPS", refresh=False)
            bar.update(sharing.count_frames(1) - bar.n)

        segment_videos(evaluation_set, pending, network, config, output, sharing, show_progress)

    if not sharing.is_last_to_finish():
        return 0
    summary = summarise(evaluation_set, config, output)
    if evaluation_set.server_zip:
        print(f"For the evaluation server: {output.zip_label_maps([video.name for video in evaluation_set.videos])}")
    report(summary, output)
    return 1 if summary.failures else 0


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, 1 if some videos failed, 2 if nothing could start."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        arguments = parse_arguments(argv)
        sharing = Sharing.from_environment()
        with sharing.failing_together():
            return run(arguments, sharing)
    except UserError as error:
        print(f"eval.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        print(f"eval.py: {error.filename or 'the output folder'}: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
