"""What this process may use of its machine, and has used."""

import os
import resource
import sys
from pathlib import Path


def available_cores() -> int:
    """Number of cores that this process may use."""
    # Containers and batch systems lend some of the machine's cores, which only the affinity shows.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_process_bytes() -> int:
    """The most memory this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage's peak on Linux may be that of the process which started this one
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
