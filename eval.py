"""Segment the videos of a data set, or one video file.

    python eval.py --dataset D17 --d17_path ../DAVIS/2017 --output ../output/d17
    python eval.py --video clip.mp4 --mask first.png --overlay
    torchrun --nproc_per_node=4 eval.py --dataset Y19

See docs/evaluation.md.
"""

import argparse
import logging
import re
import sys
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

import torch

from dataset.back_and_forth import repeat_videos
from dataset.evaluation_sets import EvaluationSet, EvaluationVideo
from dataset.registry import open_evaluation_set
from dataset.video_file import VideoFile
from evaluation.config import PUBLISHED_SIZE, EvaluationConfig
from evaluation.network_file import DAVIS_SETS, default_network_file, is_bundled, size_without_flag, videos_seen
from evaluation.reading import read_annotation
from evaluation.run import Evaluation, Summary
from evaluation.sharing import Sharing, StartFailedElsewhereError
from inference.config import PUBLISHED_LONG_TERM, STRATEGIES, InferenceConfig
from model.checkpoint import read_checkpoint, shorten
from model.network import XMem
from util.command_line import Parser
from util.device import choose_device
from util.errors import UserError
from util.files import sha256_of

NOTHING_STARTED, VIDEOS_FAILED, INTERRUPTED = 2, 1, 130  # exit codes

log = logging.getLogger("eval")


def make_parser() -> argparse.ArgumentParser:
    """The flags of this program. Where it matters whether one was given, the default is None.

    Those that go into `InferenceConfig` have its names as destinations.
    """
    published = InferenceConfig()
    parser = Parser(prog="eval.py", usage="%(prog)s [flags]", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--model", type=Path, help="network file (saves/XMem.pth, or else the bundled saves/XMem-small.pth)")
    for name, holds in (
        ("D16", "../DAVIS/2016"),
        ("D17", "../DAVIS/2017"),
        ("Y18", "../YouTube2018"),
        ("Y19", "../YouTube"),
        ("LV", "../long_video_set"),
        ("MOSE", "../MOSE"),
    ):
        add(f"--{name.lower()}_path", type=Path, default=Path(holds), help=f"where {name} lies (%(default)s)")
    add("--generic_path", type=Path, help="for --dataset G: a folder with JPEGImages/V and Annotations/V")
    add("--dataset", help="D16, D17, Y18, Y19, LV1, LV3, MOSE or G (D17)")
    add("--split", choices=("val", "test"), help="test: of D17, Y18 and Y19 (val)")
    add("--repeat", type=int, default=1, metavar="N", help="play videos back and forth, to N times their length")
    add("--video", type=Path, help="one video file instead of a data set")
    add("--mask", type=Path, help="for --video: the label map of its first frame")
    add("--output", type=Path, help="(../output/DATASET_SPLIT, or ../output/NAME for a video file)")
    add("--overwrite", action="store_true", help="remove results that are in the output folder, and start anew")
    add("--save_all", action="store_true", help="write every frame's mask, not just those to be scored")
    add("--save_scores", action="store_true", help="also write probabilities, for merging several runs")
    add("--overlay", action="store_true", help="also write a video with the masks painted over each frame")
    add("--flip", action="store_true", help="mirror the images, and the results back")
    add("--flip_too", action="store_true", help="average the probabilities of images as they are and mirrored")
    add(
        "--size",
        type=int,
        nargs="+",
        help=f"frames' shorter side; -1: their own (the network's, mostly {PUBLISHED_SIZE}); of several, the average",
    )
    add("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (%(default)s)")
    add("--amp", action="store_true", help="mixed precision also elsewhere than on CUDA, where it is on")
    add("--benchmark", action="store_true", help="full precision, and every video is timed anew")
    for name, meaning in (
        ("max_mid_term_frames", "T_max"),
        ("min_mid_term_frames", "T_min"),
        ("max_long_term_elements", "LT_max"),
        ("num_prototypes", "P"),
        ("top_k", "elements read per query; -1: all"),
        ("mem_every", "r; the paper: 10 on Long-time Video"),
        ("mem_offset", "the first frame to be memorised after frame 0 comes so much earlier"),
        ("deep_update_every", "-1: with every memory frame"),
        ("max_memory_frames", "bound of --insertion sparse and --when_full local_window"),
    ):
        add(f"--{name}", type=int, help=f"{meaning} ({getattr(published, name)})")
    for name, strategies in STRATEGIES.items():
        add(f"--{name}", choices=list(strategies), help=f"({getattr(published, name)})")
    for flag, name, instead in (
        ("--disable_long_term", "enable_long_term", "working memory grows without bound instead"),
        ("--disable_working", "enable_working", "nothing is stored, and zeros are read instead"),
        ("--disable_sensory", "enable_sensory", "the sensory memory stays at zero"),
        ("--disable_potentiation", "potentiation", "prototypes have one element's value each"),
    ):
        add(flag, dest=name, action="store_false", default=None, help=instead)
    return parser


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """What the user asks for.

    Raises:
        UserError: a flag that would have no effect, or two that want the opposite.
    """
    arguments = make_parser().parse_args(argv)
    if arguments.video is not None:
        if arguments.mask is None:
            raise UserError("--video needs --mask, the label map of its first frame")
        if arguments.repeat > 1:
            raise UserError("--repeat goes with frames in folders; a video file is decoded forwards only")
        for name in ("dataset", "split", "generic_path"):
            if getattr(arguments, name) is not None:
                raise UserError(f"--video and --{name} contradict each other: give one of them")
    elif arguments.mask is not None:
        raise UserError("--mask goes with --video; data sets have masks of their own")
    if arguments.generic_path is not None and arguments.dataset != "G":
        raise UserError(f"--generic_path goes with --dataset G, not with {arguments.dataset or 'D17'}")
    if arguments.dataset == "G" and arguments.generic_path is None:
        raise UserError("--dataset G needs --generic_path, a folder with JPEGImages/V and Annotations/V")
    if arguments.benchmark and arguments.amp:
        raise UserError("--benchmark measures full precision, and --amp asks for mixed: give one of them")
    if arguments.top_k is not None and (arguments.top_k == 0 or arguments.top_k < -1):
        raise UserError(f"--top_k must be at least 1, or -1 for all, not {arguments.top_k}")
    return arguments


def prepare(arguments: argparse.Namespace, sharing: Sharing) -> Evaluation:
    """Open everything.

    Raises:
        UserError: whatever keeps the run from starting; nothing was written.
    """
    device = choose_device(arguments.device, sharing.local_rank)
    checkpoint = read_checkpoint(arguments.model or default_network_file())
    sizes = arguments.size or [size_without_flag(checkpoint, arguments.dataset)]
    evaluation_set, root = open_videos(arguments, sizes)
    config = configure(arguments, evaluation_set.name, root, checkpoint.path, sizes, device)
    default_name = arguments.video.stem if arguments.video else f"{evaluation_set.name}_{config.split}"
    return Evaluation(
        repeat_videos(evaluation_set, config.repeat),
        XMem.from_checkpoint(checkpoint, device),
        config,
        arguments.output or Path("../output") / default_name,
        sharing,
        videos_seen(checkpoint, evaluation_set),
    )


def tell_choices(arguments: argparse.Namespace, config: EvaluationConfig) -> None:
    """Say which network is taken where none was named, which size where it is not the usual one, and what is idle."""
    if arguments.model is None:
        kind = "bundled" if is_bundled(config.weights) else "published"
        log.info("no --model: taking the %s network, %s", kind, config.weights)
    if arguments.size is None and config.size == -1:
        log.info("no --size: taking frames of %s at their own, as published", config.dataset)
    elif arguments.size is None and config.size != PUBLISHED_SIZE:
        log.info("no --size: taking %d, which the network is meant for", config.size)
    for name in PUBLISHED_LONG_TERM:  # allowed, since scripts for the published program give them so
        if arguments.enable_long_term is False and getattr(arguments, name) is not None:
            log.warning("--%s has no effect with --disable_long_term", name)


def warn_of_training_videos(evaluation: Evaluation) -> None:
    """Say that scores are not what they seem to be, where the network knows the videos."""
    model, evaluation_set = evaluation.config.weights, evaluation.evaluation_set
    if seen := evaluation.videos_seen:
        share = f"{len(seen)} of these {len(evaluation_set.videos)} videos ({shorten(seen)})"
        log.warning("%s has been trained on %s: its scores on them are no measure of anything", model, share)
    if is_bundled(model) and evaluation_set.name in DAVIS_SETS:
        log.warning(
            "the bundled network was trained on a part of DAVIS's validation videos: fine for a demonstration, "
            "never for a published number"
        )


def open_videos(arguments: argparse.Namespace, sizes: list[int]) -> tuple[EvaluationSet, Path]:
    """The videos to segment, and the folder or file they come from."""
    if arguments.video is not None:
        frames = VideoFile(arguments.video)
        if frames.frame_count is None and arguments.insertion not in (None, "regular"):
            raise UserError(f"--insertion {arguments.insertion}: {arguments.video} does not tell how long it is")
        read_annotation(arguments.mask, frames.frame_size)  # what is wrong with it is told before anything is written
        first = next(iter(frames)).name
        video = EvaluationVideo(arguments.video.stem, frames, {first: arguments.mask}, saved_frames=None)
        return EvaluationSet("video", (video,)), arguments.video
    dataset = arguments.dataset or "D17"
    flag = {"LV1": "lv", "LV3": "lv", "G": "generic"}.get(dataset, dataset.lower())
    root = getattr(arguments, f"{flag}_path", Path())
    return open_evaluation_set(dataset, arguments.split or "val", root, *sizes), root


def configure(
    arguments: argparse.Namespace, dataset: str, root: Path, weights: Path, sizes: list[int], device: torch.device
) -> EvaluationConfig:
    """The run's settings, values out of range refused."""
    names = [field.name for field in fields(InferenceConfig)]
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.top_k == -1:
        given["top_k"] = None
    try:
        return EvaluationConfig(
            dataset=dataset,
            root=root,
            split=None if arguments.video else arguments.split or "val",
            mask=arguments.mask,
            weights=weights,
            weights_sha256=sha256_of(weights),
            repeat=arguments.repeat,
            size=sizes[0],
            other_sizes=tuple(sizes[1:]),
            flip=arguments.flip,
            flip_too=arguments.flip_too,
            mixed_precision=not arguments.benchmark and (arguments.amp or device.type == "cuda"),
            save_all=arguments.save_all,
            save_scores=arguments.save_scores,
            overlay=arguments.overlay,
            inference=InferenceConfig(**given),
        )
    except ValueError as error:
        raise UserError(in_flags(str(error))) from None


def in_flags(complaint: str) -> str:
    """A complaint about fields of the settings, in the flags that people know them by."""
    flags = {action.dest: action.option_strings[-1] for action in make_parser()._actions}
    names = "|".join(flags)
    return re.sub(rf"\b({names})(=False)?\b", lambda found: flags[found[1]], complaint)


def report(summary: Summary, output: Path) -> None:
    """The run's figures, for people."""
    memory = f"process {summary.peak_process_bytes / 2**20:.0f} MiB"
    if summary.peak_device_bytes is not None:
        memory += f", device {summary.peak_device_bytes / 2**20:.0f} MiB"
    fps = "nothing timed"
    if summary.fps and summary.end_to_end_fps:
        fps = f"{summary.fps:.2f} FPS ({summary.end_to_end_fps:.2f} with reading and writing)"
    print(f"{summary.videos} videos, {summary.frames} frames, {fps}; peak memory: {memory}")
    if summary.scores:
        scores = summary.scores
        partly = f" of the {summary.videos} videos that did not fail" if summary.failures else ""
        print(f"J&F {scores.j_and_f:.1f}  J {scores.j:.1f}  F {scores.f:.1f}{partly}")
    print(f"Results: {output}")
    for name, message in summary.failures.items():
        print(f"failed: {name}: {message}", file=sys.stderr)


def finish(evaluation: Evaluation) -> int:
    """Process 0, when all have done their shares: summary, scores, the server's zip; returns the exit code."""
    summary = evaluation.summarise()
    report(summary, evaluation.output.path)  # first, since the disk may be full
    zip_file = evaluation.keep(summary)
    if zip_file is not None:
        print(f"For the evaluation server: {zip_file}")
    elif evaluation.evaluation_set.server_zip:
        print("no zip file was made for the evaluation server, since videos failed", file=sys.stderr)
    return VIDEOS_FAILED if summary.failures else 0


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0; 1 if a video failed; 2 if nothing could start; 130 if interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    exit_code = NOTHING_STARTED
    try:
        sharing = Sharing.from_environment()
        with ExitStack() as held:
            with sharing.failing_together():
                arguments = parse_arguments(argv)
                evaluation = prepare(arguments, sharing)
                pending = held.enter_context(evaluation.started(arguments.overwrite, anew=arguments.benchmark))
            exit_code = VIDEOS_FAILED
            if sharing.rank == 0:
                tell_choices(arguments, evaluation.config)
                warn_of_training_videos(evaluation)
            evaluation.segment(pending)
            return finish(evaluation) if sharing.rank == 0 else 0
    except UserError as error:
        print(f"eval.py: {error}", file=sys.stderr)
        return exit_code
    except StartFailedElsewhereError:
        return exit_code
    except KeyboardInterrupt:
        print("eval.py: interrupted; the same command, without --overwrite, goes on from here", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
