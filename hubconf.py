"""The program's functions for torch.hub: torch.hub.load("OWNER/REPOSITORY", "load_network")."""

from xmem import load_network, segment_video

__all__ = ["dependencies", "load_network", "segment_video"]

dependencies = ["torch", "torchvision", "numpy", "cv2", "PIL", "av", "jaxtyping", "scipy", "tqdm"]
