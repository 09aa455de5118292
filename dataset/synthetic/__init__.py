"""Clips made on the fly, without any download: moving, deforming, textured objects that hide each other.

`clips.py` is the source of training samples. A scene (`scene.py`) is made of sprites (`sprites.py`), which are
silhouettes (`silhouettes.py`) filled with textures (`textures.py`), or objects cut out of photographs; they follow the
paths of `motion.py`. `long_video.py` makes videos of any length from the same parts, for evaluation.
"""
