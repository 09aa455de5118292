"""The memory stores of the paper (section 3): sensory, working and long-term memory, and how they are read.

`working.py` and `long_term.py` hold elements (`element_store.py`), `sensory.py` the GRU's states; `reading.py` is the
read of every frame. `inference/memory_manager.py` has frames stored and, by the strategy that was chosen, consolidated.
"""
