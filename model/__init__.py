"""The network: encoders, the memory read, the sensory memory's GRU and the decoder. Knows nothing of videos.

`network.py` puts the parts together, `checkpoint.py` reads and writes network files; every other module holds one idea
of the paper.
"""
