"""What a figure was measured on."""

import platform
from pathlib import Path

import torch

from evaluation.device import device_name
from util.process import available_cores


def hardware_name(device: torch.device) -> str:
    """Device, cores and PyTorch's version, in one line."""
    if device.type != "cpu":
        return f"{device_name(device)}, PyTorch {torch.__version__}"
    cores = available_cores()
    return f"{cores} core{'s' * (cores != 1)} of {processor_name()}, PyTorch {torch.__version__}"


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor is called, where the system says so, else what kind it is."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
