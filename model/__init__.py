"""The network: encoders, the memory read, the sensory memory's GRU and the decoder. Knows nothing of videos or files.

`network.py` puts the parts together; every other module holds one idea of the paper.
"""
