"""How far apart the frames of a training clip may lie, as training goes on (section 4)."""

# Share of the iterations after which max_jump has the value; BL30K, stage 1, narrows earlier.
WIDENING = ((0.0, 5), (0.1, 10), (0.3, 15))
NARROW = 5
NARROWS_AFTER = 0.9
NARROWS_AFTER_ON_BL30K = 0.8


def max_jump(iteration: int, iterations: int, stage: str = "3") -> int:
    """Frames between neighbours of a clip at most, at `iteration` (from 0) of a stage.

    Args:
        iterations: of the stage, without those of its fine-tuning, which follow and are narrow again.
    """
    narrows_after = NARROWS_AFTER_ON_BL30K if stage == "1" else NARROWS_AFTER
    schedule = (*WIDENING, (narrows_after, NARROW))
    return [jump for share, jump in schedule if iteration >= round(share * iterations)][-1]
