"""J and F of predicted label maps against the ground truth, equal to the DAVIS 2017 toolkit's (semi-supervised)."""
