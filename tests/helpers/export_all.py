"""Exports networks as lists of flags say, in a process without type checks of shapes, which would fix open sizes."""

import json
import sys

from scripts import export

if __name__ == "__main__":
    for flags in json.loads(sys.argv[1]):
        if code := export.main(flags):
            sys.exit(code)
