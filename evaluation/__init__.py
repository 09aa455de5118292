"""What is done with a segmented clip: running the network over whole clips, and showing the result.

Masks in the layouts that people score, pictures and videos to look at; everything here takes frames and label maps and
knows nothing of the network's insides.
"""
