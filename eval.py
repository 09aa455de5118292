"""Segment the videos of a data set, or one video file.

    python eval.py --dataset D17 --d17_path ../DAVIS/2017 --output ../output/d17
    python eval.py --video clip.mp4 --mask first.png --overlay
    torchrun --nproc_per_node=4 eval.py --dataset Y19

See docs/evaluation.md.
"""

import argparse
import logging
import sys
from pathlib import Path

import torch

from dataset.back_and_forth import repeat_videos
from dataset.evaluation_video import EvaluationSet
from dataset.registry import DATA_SETS
from evaluation import networks
from evaluation.config import EvaluationConfig
from evaluation.evaluate import evaluate
from evaluation.flags import add_inference_flags, check_source_flags, in_flags, inference_config
from evaluation.frame_reader import open_video
from evaluation.summary import Summary
from evaluation.work_queue import StartFailedElsewhereError, WorkQueue
from export.running import PROVIDERS
from inference.images import PUBLISHED_SIZE
from util.command_line import MISTAKE, Parser, run_program
from util.device import choose_device
from util.errors import SettingError, UserError
from util.files import sha256_of

FAILED = 1  # exit code


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's flags. Where it matters whether one was given, the default is None."""
    parser = Parser(prog="eval.py", usage="%(prog)s [flags]", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--model", type=Path, help="network file, or export (saves/XMem.pth, or else the bundled saves/XMem-small.pth)")
    add("--provider", choices=PROVIDERS, help="for exports: what runs them in ONNX Runtime (cpu, on a GPU cuda)")
    add("--dataset", help=f"one of {', '.join(DATA_SETS)} (D17)")
    for root_name, data_set in {each.root_name: each for each in DATA_SETS.values()}.items():
        help_root = f"{data_set.root_holds} ({data_set.default_root or 'none'})"
        add(f"--{root_name}", type=Path, help=help_root)
    add("--split", choices=("val", "test"), help="test: of D17, Y18, Y19, LVOS1, LVOS2 and SAV (val)")
    add("--repeat", type=int, default=1, metavar="N", help="play videos back and forth, to N times their length")
    add("--video", type=Path, help="a video file or a folder of frames, instead of a data set")
    add("--mask", type=Path, help="for --video: the label map of its first frame")
    add("--masks", type=Path, help="for --video: a folder of label maps, which add and correct objects")
    add("--use_all_masks", action="store_true", help="for G: later label maps add and correct objects, unscored")
    add(
        "--backward", action="store_true", help="for G and --video: also from the first label map back to the beginning"
    )
    add("--separate_objects", action="store_true", help="for SAV: follow every object by itself; results may overlap")
    add("--output", type=Path, help="(../output/DATASET_SPLIT, or ../output/NAME for a video file)")
    add("--overwrite", action="store_true", help="remove results that are in the output folder, and start over")
    add("--save_all", action="store_true", help="write every frame's mask, not just those to be scored")
    add("--save_scores", action="store_true", help="also write probabilities, for merging several runs")
    add("--overlay", action="store_true", help="also write a video with the masks painted over each frame")
    add("--flip", action="store_true", help="mirror the images, and the results back")
    add("--flip_too", action="store_true", help="average the probabilities of images as they are and mirrored")
    size = f"shorter side; -1: unchanged; several: their mean ({PUBLISHED_SIZE}, or the network's; LV1 and LV3: -1)"
    add("--size", type=int, nargs="+", help=size)
    add("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (%(default)s)")
    add("--amp", action="store_true", help="mixed precision also elsewhere than on CUDA, where it is on")
    add("--no_graphs", action="store_true", help="CUDA: launch the network's operations one by one (slower)")
    add("--benchmark", action="store_true", help="full precision, and every video is timed again")
    add_inference_flags(parser)
    return parser


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Return what the user asks for.

    Raises:
        UserError: a flag that would have no effect, or two that contradict each other.
    """
    arguments = make_parser().parse_args(argv)
    if arguments.dataset not in (None, *DATA_SETS):
        raise UserError(f"--dataset {arguments.dataset}: there is {', '.join(DATA_SETS)}")
    check_source_flags(arguments)
    if arguments.benchmark and arguments.amp:
        raise UserError("--benchmark measures full precision, and --amp asks for mixed: give one of them")
    return arguments


def open_videos(arguments: argparse.Namespace, sizes: list[int]) -> tuple[EvaluationSet, Path]:
    """Return the videos to segment, and the folder or file they come from."""
    if arguments.video is not None:
        videos = open_video(arguments.video, arguments.mask, arguments.masks)
        if videos.videos[0].frames.frame_count is None and arguments.insertion not in (None, "regular"):
            raise UserError(f"--insertion {arguments.insertion}: {arguments.video} does not say how long it is")
        return videos, arguments.video
    name = arguments.dataset or "D17"
    data_set = DATA_SETS[name]
    root = getattr(arguments, data_set.root_name) or data_set.default_root
    if root is None:
        raise UserError(f"--dataset {name} needs --{data_set.root_name}, {data_set.root_holds}")
    return data_set.open(root, arguments.split or "val", sizes), root


def configure(
    arguments: argparse.Namespace, dataset: str, root: Path, weights: Path, sizes: list[int], device: torch.device
) -> EvaluationConfig:
    """Return the settings of the run.

    Raises:
        SettingError: a value out of its range, or a flag that would have no effect.
    """
    return EvaluationConfig(
        dataset=dataset,
        root=root,
        split=None if arguments.video else arguments.split or "val",
        mask=arguments.mask,
        masks=arguments.masks,
        use_all_masks=arguments.use_all_masks,
        backward=arguments.backward,
        separate_objects=arguments.separate_objects,
        weights=weights,
        weights_sha256=sha256_of(weights),
        provider=arguments.provider,
        repeat=arguments.repeat,
        size=sizes[0],
        other_sizes=tuple(sizes[1:]),
        flip=arguments.flip,
        flip_too=arguments.flip_too,
        mixed_precision=not arguments.benchmark and (arguments.amp or device.type == "cuda"),
        cuda_graphs=not arguments.no_graphs,
        save_all=arguments.save_all,
        save_scores=arguments.save_scores,
        overlay=arguments.overlay,
        inference=inference_config(arguments),
    )


def report(summary: Summary, output: Path, server_zip: bool) -> int:
    """Print the figures of a run, and return the exit code."""
    print(*summary.lines(), f"Results: {output}", sep="\n")
    for name, message in summary.failures.items():
        print(f"failed: {name}: {message}", file=sys.stderr)
    if summary.not_written is not None:
        print(f"eval.py: {summary.not_written}", file=sys.stderr)
    elif summary.zip_file is not None:
        print(f"For the evaluation server: {summary.zip_file}")
    elif server_zip:
        print("no zip file was made for the evaluation server, since videos failed", file=sys.stderr)
    return FAILED if summary.failures or summary.not_written else 0


def run(arguments: argparse.Namespace, queue: WorkQueue) -> int:
    """Run the evaluation that the flags ask for; returns the exit code.

    Raises:
        UserError: it cannot start.
        SettingError: a value out of its range.
        StartFailedElsewhereError: process 0 cannot start.
    """
    device = choose_device(arguments.device, queue.local_rank)
    file = networks.read_network_file(arguments.model or networks.default_network_file())
    networks.require_effect(file, device, amp=arguments.amp, no_graphs=arguments.no_graphs)
    sizes = arguments.size or [networks.size_without_flag(file, arguments.dataset)]
    videos, root = open_videos(arguments, sizes)
    config = configure(arguments, videos.name, root, file.path, sizes, device)
    videos = repeat_videos(videos, config.repeat)
    seen = networks.videos_seen(file, videos)
    default_name = videos.videos[0].name if arguments.video else f"{videos.name}_{config.split}"
    output = arguments.output or Path("../output") / default_name
    network = networks.build_network(file, device, arguments.provider)
    if queue.rank == 0:
        networks.warn_of_training_videos(file.path, videos, seen)
    summary = evaluate(
        videos, network, config, output,
        queue=queue, videos_seen=seen, overwrite=arguments.overwrite, restart=arguments.benchmark,
    )  # fmt: skip
    return report(summary, output, videos.server_zip) if summary else 0


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit code: 0; 1 if something failed; 2 if nothing could start; 130 after Ctrl-C.

    What may fail on the way are videos, and the writing of the summary.
    """

    def start() -> int:
        queue = WorkQueue.from_environment()
        level = logging.INFO if queue.rank == 0 else logging.ERROR  # only process 0 reports
        logging.basicConfig(level=level, format="%(levelname)s: %(message)s")
        try:
            with queue.failing_together():
                try:
                    return run(parse_arguments(argv), queue)
                except SettingError as error:
                    raise UserError(in_flags(error)) from None
        except StartFailedElsewhereError:
            return MISTAKE

    return run_program("eval.py", start, "the same command, without --overwrite, resumes")


if __name__ == "__main__":
    sys.exit(main())
