"""Frames, label maps, the layouts of data sets for evaluation and training, and training samples."""
