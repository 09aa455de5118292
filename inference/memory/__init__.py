"""The memory stores of the paper (section 3): sensory, working and long-term, and the manager that ties them.

`working.py` and `long_term.py` hold elements (`element_store.py`), `sensory.py` the GRU's state, `reading.py` is the
hot loop, and `manager.py` has a frame stored and, with the strategy that was chosen, room made for it.
"""
