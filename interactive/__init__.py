"""Annotating a video: masks made by hand or by clicks, followed by the network, corrected, and followed again.

`session.py` is what a person can do; it knows nothing of the page (`page/`) and its server (`server.py`).
`workspace.py` keeps every step on disk, `following.py` runs the network, `segmenters/` turn clicks into masks.
"""
