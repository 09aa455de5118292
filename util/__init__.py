"""Helpers that know nothing of the paper: errors, files, devices, processes, command lines, overlaid masks."""

import sys

if sys.platform == "win32":
    sys.tracebacklimit = 0  # one line says it
    raise ImportError("XMem runs on Linux and macOS; on Windows it runs in WSL, the Windows Subsystem for Linux")

try:
    import cv2  # noqa: F401
except ImportError as error:  # opencv-python needs libraries of a display, which containers lack
    sys.tracebacklimit = 0
    raise ImportError(
        f"OpenCV cannot be loaded ({error}): install opencv-python-headless in place of opencv-python"
    ) from None
