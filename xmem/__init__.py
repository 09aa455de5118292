"""XMem: segment a video from the masks of its first frame."""
