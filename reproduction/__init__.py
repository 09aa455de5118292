"""The paper's tables and figures: what is run for them, and what is made of it.

`variants.py` names the configurations, `tables.py` says which of them each table compares, and by what; `profiles.py`
says on which data and at which size. `runs.py` runs them, `traces.py` measures memory and time frame by frame, and
`results.py`, `figures.py`, `claims.py` and `report.py` set what came out beside what was published.
"""
