"""Following objects through one video, frame by frame: what is remembered, for how long, and how it is read.

`inference_core.py` is the per-frame loop. `memory_manager.py` stores frames, in the stores of `memory/`; what may be
decided differently is in `strategies/`, and all settings are in `config.py`. `video_segmenter.py` takes decoded
frames of any size.
"""
