"""The machine a run uses: its cores and memory. Nothing here needs PyTorch, which takes seconds to import."""

import ctypes
import os
import platform
import resource
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
LARGEST_BLOCK, LARGEST_BLOCK_OF_OLD = 2**31 - 1, 2**25  # in bytes


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    # Containers and batch systems lend some of the machine's cores, which only the affinity shows.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_all_machines() -> int:
    """Return the number of cores of all machines on which torchrun started processes, taking them to be alike."""
    return available_cores() * int(os.environ.get("GROUP_WORLD_SIZE", 1))  # as torchrun counts them


def peak_process_bytes(process: int | str = "self") -> int:
    """Return the peak memory of this process (on Linux also of another, by its number), in bytes."""
    status = Path(f"/proc/{process}/status")
    if status.exists():  # getrusage's peak on Linux may be that of the process which started this one
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_freed_memory() -> None:
    """Let this process keep memory that is freed, for the next tensors, where its C library is glibc.

    By default glibc returns large blocks to the system at once. Every frame then waits for the system to map and clear
    the same pages again.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    set_option = ctypes.CDLL(None).mallopt
    if not set_option(M_MMAP_THRESHOLD, LARGEST_BLOCK):  # older versions refuse it
        set_option(M_MMAP_THRESHOLD, LARGEST_BLOCK_OF_OLD)
    set_option(M_TRIM_THRESHOLD, LARGEST_BLOCK)
    set_option(M_ARENA_MAX, 1)


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name where the system knows it, and its architecture elsewhere."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
