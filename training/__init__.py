"""Training the network: what is computed for a batch (`clip.py`, `losses.py`), and everything around it."""
