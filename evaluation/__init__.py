"""Evaluation of whole data sets: every video segmented, written, timed and scored.

`evaluate.py` runs an evaluation; `work_queue.py` shares its videos over processes, `segmenter.py` takes one video
through the network, `output_folder.py` keeps the results so that an interrupted run can be resumed.
"""
