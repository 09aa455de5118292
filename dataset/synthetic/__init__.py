"""Clips made on the fly, without any download: moving, deforming, textured objects that hide each other.

`clips.py` is the source of samples; a `scene.py` is made of `sprites.py` (a silhouette of `silhouettes.py` filled with
`textures.py`, or an object cut out of a photograph) that follow the paths of `motion.py`. `long_video.py` makes
videos of any length of the same, to evaluate on.
"""
