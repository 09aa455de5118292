"""Label maps painted over their frames, as a video that browsers play."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange
from jaxtyping import UInt8

from util.files import atomic_path
from util.painting import overlay_masks

# ITU-T H.273 gives BT.709 the same number as a matrix, as primaries and as a transfer function.
BT709 = 1


class OverlayVideo:
    """A context in which frames and their label maps are written as one video: H.264, 4:2:0, for any player.

    The file is whole or absent: it takes its name when the context ends without an error. An odd height or width
    grows by one row or column, a copy of the last, since 4:2:0 has one colour for 2×2 pixels.

    Args:
        path: the file to write, which should end in .mp4.
        frame_rate: frames per second.
        palette: as in `overlay_masks`.
        opacity: as in `overlay_masks`.

    Raises:
        OSError: the file cannot be written, or the disk is full.
        ValueError: a frame has another size than the first, or no frame was written at all.
    """

    def __init__(self, path: Path, frame_rate: Fraction, palette: bytes | None = None, opacity: float = 0.5):
        self.path = path
        self.palette = palette
        self.opacity = opacity
        # A measured average (119893/4997) may have terms too large for the container's clock; 30000/1001 stays.
        self.frame_rate = Fraction(frame_rate).limit_denominator(1001)
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> "OverlayVideo":
        self._file = self._whole_or_absent()
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._file.__exit__(*error)

    @contextmanager
    def _whole_or_absent(self) -> Iterator[None]:
        with (
            atomic_path(self.path) as temporary,
            # FFmpeg opens the file only at the first frame; a folder that cannot be written to is reported at once.
            temporary.open("wb"),
            av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as self._container,
        ):
            self._stream = self._container.add_stream("libx264", rate=self.frame_rate, options={"crf": "18"})
            self._stream.pix_fmt = "yuv420p"
            # Players take an untagged video for BT.601 or BT.709 as they please, and colours shift.
            context = self._stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = ColorRange.MPEG
            yield
            if self._size is None:
                raise ValueError(f"no frame was written to {self.path}")
            self._container.mux(self._stream.encode())

    def write(self, rgb: UInt8[np.ndarray, "height width 3"], labels: UInt8[np.ndarray, "height width"]) -> None:
        """Append one frame with its label map painted over it."""
        height, width = labels.shape
        if self._size is None:
            self._size = height, width
            self._stream.height, self._stream.width = height + height % 2, width + width % 2
        elif self._size != (height, width):
            raise ValueError(f"a frame of {width}x{height} in a video of {self._size[1]}x{self._size[0]}")
        painted = overlay_masks(rgb, labels, self.palette, self.opacity)
        even = np.pad(painted, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        image = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(format="yuv420p", dst_colorspace=BT709)
        self._container.mux(self._stream.encode(image))
