"""The device a run uses, and what it tells of itself."""

import torch

from util.errors import UserError


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device a user named. "cuda" (or "auto", where there is one) is this process's own GPU on its machine.

    Raises:
        UserError: there is no such device here.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_there in available.items() if is_there)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: there is auto, cuda, cuda:N, mps and cpu") from None
    if device.type not in available:
        raise UserError(f"--device {name}: there is auto, cuda, cuda:N, mps and cpu")
    if not available[device.type]:
        raise UserError(f"--device {name}: not available here (PyTorch {torch.__version__})")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        device = torch.device("cuda", device.index if device.index is not None else local_rank % count)
        if device.index >= count:
            raise UserError(f"--device {name}: this machine's last CUDA device is cuda:{count - 1}")
        torch.cuda.set_device(device)
    return device


def device_name(device: torch.device) -> str:
    """What the device is called, for summaries."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_device_bytes(device: torch.device) -> int | None:
    """The most memory of a CUDA device that tensors took since `restart_peak`; None where nothing is measured."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def restart_peak(device: torch.device) -> None:
    """Measure `peak_device_bytes` from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
