"""Following objects through one video, frame by frame: what is remembered, for how long, and how it is read.

`inference_core.py` is the per-frame loop; `memory/` holds the three memory stores of the paper, `strategies/` what
may be done differently about them.
"""
