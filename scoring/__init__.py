"""Scores of predicted label maps against the ground truth, by the rules of six benchmarks.

`davis.py` equals the DAVIS 2017 toolkit (semi-supervised); `protocols.py` lists all.
"""
