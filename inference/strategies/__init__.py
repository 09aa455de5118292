"""What may be done differently about memory: one interface per question, one class per answer.

| Question                                  | `InferenceConfig` | Module           |
|-------------------------------------------|-------------------|------------------|
| When does a frame enter working memory?   | `insertion`       | `insertion.py`   |
| When is there a deep update?              | `deep_update`     | `deep_update.py` |
| What happens when working memory is full? | `when_full`       | `when_full.py`   |
| Which candidates become prototypes?       | `prototypes`      | `prototypes.py`  |

A strategy is a frozen dataclass that derives from its module's first class; it remembers nothing between calls. Its
fields are its settings: each has the name of the field of `InferenceConfig` that it is filled from. The dictionary at
the end of a module gives strategies their names; a new one is a class, and a line there.
"""
