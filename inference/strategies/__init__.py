"""What may be done differently about the memory: the paper's ablations, and new ideas.

| question | module | published answer |
|---|---|---|
| which frames enter working memory | `insertion.py` | every r-th |
| when the value encoder refreshes the sensory memory | `deep_update.py` | with every memory frame |
| what happens when working memory is full | `consolidation.py` | prototypes move to long-term memory |
| which elements become prototypes, and with what values | `prototypes.py` | the most used, potentiated |

Each answer is a small frozen dataclass with its own settings; `inference/config.py` chooses one for each question. A
strategy remembers nothing from frame to frame: what it decides by is handed to it.
"""
