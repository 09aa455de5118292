"""Label maps painted over their frames, as a video that browsers play."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange
from jaxtyping import UInt8

from dataset.frames import size_text
from util.files import atomic_path
from util.painting import overlay_masks

# ITU-T H.273 gives BT.709 the same number as a matrix, as primaries and as a transfer function.
BT709 = 1


Painter = Callable[[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]], None]
"""Appends a frame with its label map painted over it."""


@contextmanager
def overlay_video(path: Path, frame_rate: Fraction, palette: bytes | None = None) -> Iterator[Painter]:
    """Write frames and their label maps as one video while the block runs: H.264, 4:2:0, for any player.

    The file is whole or absent: it takes its name when the block ends without an error. An odd height or width grows
    by one row or column, a copy of the last, since 4:2:0 has one colour for 2×2 pixels.

    Args:
        path: the file to write, which should end in .mp4.
        frame_rate: frames per second.
        palette: as in `overlay_masks`.

    Raises:
        OSError: the file cannot be written, or the disk is full.
        ValueError: a frame has another size than the first, or no frame was written at all.
    """
    with (
        atomic_path(path) as temporary,
        # FFmpeg opens the file only at the first frame; a folder that cannot be written to is reported at once.
        temporary.open("wb"),
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        # A measured average (119893/4997) may have terms too large for the container's clock; 30000/1001 stays.
        rate = Fraction(frame_rate).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.pix_fmt = "yuv420p"
        # Players take an untagged video for BT.601 or BT.709 as they please, and colours shift.
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = ColorRange.MPEG
        size: tuple[int, int] | None = None

        def write(rgb: UInt8[np.ndarray, "height width 3"], labels: UInt8[np.ndarray, "height width"]) -> None:
            nonlocal size
            height, width = labels.shape
            if size is None:
                size = height, width
                stream.height, stream.width = height + height % 2, width + width % 2
            elif size != (height, width):
                raise ValueError(f"a frame of {size_text((height, width))} in a video of {size_text(size)}")
            painted = overlay_masks(rgb, labels, palette)
            even = np.pad(painted, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            image = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(format="yuv420p", dst_colorspace=BT709)
            container.mux(stream.encode(image))

        yield write
        if size is None:
            raise ValueError(f"no frame was written to {path}")
        container.mux(stream.encode())
