"""The device that a run uses, a GPU or the CPU, and its half precision."""

import os
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from util.errors import SettingError
from util.machine import available_cores, processor_name


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device a user named: auto, cuda, cuda:N, mps or cpu.

    "cuda", and "auto" where there is a GPU, is the GPU of this process: number `local_rank` of its machine.

    Raises:
        SettingError: there is no such device here.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_there in available.items() if is_there)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SettingError("device", f"{name}: choose auto, cuda, cuda:N, mps or cpu") from None
    if device.type not in available:
        raise SettingError("device", f"{name}: choose auto, cuda, cuda:N, mps or cpu")
    if not available[device.type]:
        raise SettingError("device", f"{name}: not available here (PyTorch {torch.__version__})")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        device = torch.device("cuda", device.index if device.index is not None else local_rank % count)
        if device.index >= count:
            raise SettingError("device", f"{name}: this machine's last CUDA device is cuda:{count - 1}")
        torch.cuda.set_device(device)
    return device


def require_a_gpu_each(name: str, device: torch.device) -> None:
    """Check that no two of the processes that torchrun started on this machine would train on one GPU: NCCL cannot.

    Args:
        name: the device as the user named it, such as "auto" or "cuda:1".
        device: what `choose_device` returned for it.

    Raises:
        SettingError: two would.
    """
    here, there = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if device.type != "cuda" or here == 1:
        return
    if torch.device("cpu" if name == "auto" else name).index is not None:
        raise SettingError("device", f"{name}: {here} processes cannot train on one GPU; cuda gives each its own")
    if here > there:
        raise SettingError("device", f"{name}: {here} processes on this machine, and {there} GPUs: each needs its own")


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, and "cpu" or "mps" for these."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_device_bytes(device: torch.device) -> int | None:
    """Return the peak memory of tensors on a CUDA device since `reset_peak`, in bytes; None on other devices."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def reset_peak(device: torch.device) -> None:
    """Begin a new measurement of `peak_device_bytes`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to `device`; one that is on a device stays there.

    The copy to a CUDA device is asynchronous: neither side waits for the other.
    """
    if tensor.device.type != "cpu":
        return tensor
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is too little memory, on a GPU or a CPU."""
    # PyTorch has an exception of its own for GPUs only.
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return on_cpu or isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)


def hardware_name(device: torch.device) -> str:
    """Return the name of the hardware and the version of PyTorch in one line."""
    if device.type != "cpu":
        return f"{device_name(device)}, PyTorch {torch.__version__}"
    cores = available_cores()
    return f"{cores} core{'s' * (cores != 1)} of {processor_name()}, PyTorch {torch.__version__}"


def half_precision(device: torch.device, training: bool = False) -> torch.dtype:
    """Return the type of mixed precision on a device, for evaluation or for training.

    On a GPU evaluation uses float16, as published: its three more bits of mantissa keep probabilities closer to those
    of full precision. Training uses bfloat16 where the GPU computes in it (Ampere and later), since gradients need its
    range; older GPUs use float16 with a scaled loss. A CPU computes in bfloat16 only.
    """
    if device.type == "cpu":
        return torch.bfloat16
    if training and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16


def full_precision(like: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast for the device of `like`."""
    return torch.autocast(device_type=like.device.type, enabled=False)
