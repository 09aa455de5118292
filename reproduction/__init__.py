"""The paper's tables and figures: what is run for them, and what is reported.

Read in this order: `variants.py` names the configurations, `tables.py` says which of them each table compares, and by
what measure; `profiles.py` says on which data and at which size. `plan.py` derives the runs, `runs.py` carries them out
and keeps a record of each. `results.py` makes cells and claims of the records, `report.py` writes them down beside what
was published.
"""
