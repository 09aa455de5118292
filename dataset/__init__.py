"""Frames, label maps, the layouts of data sets for evaluation and training, and training samples."""

import util  # noqa: F401  it says what to do where OpenCV cannot be loaded
