"""Draw the clips that a training stage shows, with their objects in colour: to look at before a long run.

python -m scripts.draw_clips --out clips.png
python -m scripts.draw_clips --stage m --videos_root ../videos --videos_paste_share 0.6 --out clips.png
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dataset.sampling import TrainingSample, max_jump
from model.network import STRIDE
from training.config import STAGES, DataConfig
from training.data import open_stage_data
from util.command_line import Parser, run_program
from util.errors import UserError
from util.files import atomic_path, writing
from util.painting import overlay_masks

FORMATS = {".png": "png", ".webp": "webp", ".jpg": "jpeg"}
MOST_PIXELS = 16383
"""The largest side of a WebP picture."""
FOLDERS = ("static_root", "bl_root", "yv_root", "davis_root", "videos_root", "videos_subset", "cutout_root")
SHARES = ("videos_share", "videos_smallest_crop", "videos_colour_jitter", "videos_paste_share")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's flags."""
    parser = Parser(prog="python -m scripts.draw_clips", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--stage", choices=STAGES, default="s", help="(%(default)s)")
    add("--out", type=Path, required=True, help="the picture: one clip in a row")
    add("--clips", type=int, default=8, help="number of clips (%(default)s)")
    add("--frames", type=int, default=5, help="of a clip (%(default)s)")
    add("--crop", type=int, default=192, help="height and width of the frames in pixels (%(default)s)")
    add("--seed", type=int, default=0, help="(%(default)s)")
    for name in FOLDERS:
        add(f"--{name}", type=Path, default=getattr(DataConfig, name), help="as for train.py")
    for name in SHARES:
        add(f"--{name}", type=float, default=getattr(DataConfig, name), help="as for train.py")
    return parser


def drawn(sample: TrainingSample) -> np.ndarray:
    """Return the frames of a clip, side by side, with its objects in colour."""
    pairs = zip(sample.images.permute(0, 2, 3, 1).numpy(), sample.labels.numpy(), strict=True)
    return np.concatenate([overlay_masks(frame, labels, opacity=0.3) for frame, labels in pairs], axis=1)


def draw_clips(arguments: argparse.Namespace) -> int:
    """Write the picture; returns the exit code.

    Raises:
        UserError, SettingError: a flag's value, a folder or a file of the data cannot be used.
    """
    if arguments.out.suffix.lower() not in FORMATS:
        raise UserError(f"--out {arguments.out}: its name has to end in {', '.join(FORMATS)}")
    if arguments.clips < 1 or arguments.frames < 2 or arguments.seed < 0:
        raise UserError("--clips must be at least 1, --frames 2 and --seed 0")
    if arguments.crop < STRIDE or arguments.crop % STRIDE:
        raise UserError(f"--crop must be a multiple of {STRIDE}, not {arguments.crop}")
    if max(arguments.clips, arguments.frames) * arguments.crop > MOST_PIXELS:
        raise UserError(f"the picture would be more than {MOST_PIXELS} pixels high or wide: lower --clips or --crop")
    stage = replace(STAGES[arguments.stage], num_frames=arguments.frames, crop=arguments.crop)
    data = DataConfig(**{name: getattr(arguments, name) for name in (*FOLDERS, *SHARES)})
    source = open_stage_data(stage, data, arguments.seed).main
    jump = max_jump(stage.iterations // 2, stage.iterations, stage.name)
    picture = np.concatenate([drawn(source.sample(number, jump)) for number in range(arguments.clips)])
    with writing(arguments.out):
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with writing(arguments.out), atomic_path(arguments.out) as temporary:
        Image.fromarray(picture).save(temporary, FORMATS[arguments.out.suffix.lower()], quality=85)
    print(f"{arguments.clips} clips of stage {stage.name}: {arguments.out}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit code: 0; 2 after a user's mistake; 130."""
    return run_program("draw_clips", lambda: draw_clips(make_parser().parse_args(argv)), "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
