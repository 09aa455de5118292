"""What a run starts from: a checkpoint to continue, the network of a file, or nothing yet."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from model.checkpoint import read_checkpoint
from model.config import NetworkConfig
from model.network import XMem
from training.checkpoints import RunFolder, RunSettings, TrainingCheckpoint
from training.config import RunConfig, StageConfig, stage_key
from training.data import StageData, TrainedOn
from training.initialisation import without_parts
from util.errors import UserError
from util.files import sha256_of
from util.provenance import differences

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class StartingPoint:
    """What a run starts from."""

    name: str = "nothing"  # for messages
    network: XMem | None = None  # None: it is still to be initialised
    checkpoint: TrainingCheckpoint | None = None  # None: the run starts at its first stage
    trained_on: TrainedOn = field(default_factory=TrainedOn)

    @property
    def network_config(self) -> NetworkConfig | None:
        """The network's configuration for several objects, also where it is of stage 0; None if there is no network."""
        return None if self.network is None else replace(self.network.config, single_object=False)

    def for_network(self, wanted: NetworkConfig | None) -> "StartingPoint":
        """Return the starting point with the network that a run asks for, where it starts from a file.

        Of a file's network, parts may be left out: a scaling term, or the sensory memory.

        Raises:
            UserError: the network is another one.
        """
        if self.network is None or wanted is None:
            return self
        start = self
        if self.checkpoint is None:
            parts = wanted.use_shrinkage, wanted.use_selection, wanted.hidden_dim != 0
            start = replace(self, network=without_parts(self.network, *parts))
        if changed := differences(asdict(start.network_config or wanted), asdict(wanted)):
            raise UserError(
                f"{self.name} is of another network than the settings ask for ({'; '.join(changed)}): "
                "change these settings, or leave them out"
            )
        return start

    def check_stages(self, stages: tuple[StageConfig, ...]) -> None:
        """Check that the checkpoint is of one of these stages, with the same stages before it.

        Raises:
            UserError: it is not, whatever `resume_changed` says.
        """
        if self.checkpoint is None:
            return
        before = self.checkpoint.settings.config["stages"]
        now = {stage_key(index, stage): stage for index, stage in enumerate(stages)}
        index = self.checkpoint.stage_index
        for stage, stage_now in zip(list(before)[: index + 1], now, strict=False):
            if stage != stage_now:
                raise UserError(
                    f"{self.name} is of a run with stage {stage}, where this one has {stage_now}: give the same "
                    "stages, or start another run with another exp_id"
                )
        if self.first_stage(stages) == index < len(stages):
            frames, frames_now = before[stage_key(index, stages[index])]["num_frames"], stages[index].num_frames
            if (frames > 2) != (frames_now > 2):
                raise UserError(
                    f"{self.name} is of clips of {frames} frames, which cannot be continued with {frames_now}: clips "
                    "of two frames train fewer weights"
                )

    def first_stage(self, stages: tuple[StageConfig, ...]) -> int:
        """Return the index of the first stage that is not finished; the number of stages if all are."""
        if self.checkpoint is None:
            return 0
        index = self.checkpoint.stage_index
        is_finished = index < len(stages) and self.checkpoint.iteration >= stages[index].total_iterations
        return min(index + is_finished, len(stages))

    def settings(self, config: RunConfig, data: Mapping[int, StageData]) -> RunSettings:
        """Return the settings of a run that starts here.

        Args:
            data: of the stages that are not finished, by index.

        Raises:
            UserError: they differ from the checkpoint's, and `config.resume_changed` is not set.
        """
        contents = {stage_key(index, config.stages[index]): dict(stage.contents) for index, stage in data.items()}
        if self.checkpoint is None:
            first = digest_of(config) or ("none" if config.pretrained else "none, random weights")
            return RunSettings(config=config.deciding_settings(), load_network=first, data=contents)
        before = self.checkpoint.settings
        # A network file that is gone by now is no obstacle, since its weights are in the checkpoint.
        now = RunSettings(
            config=config.deciding_settings(),
            load_network=digest_of(config) or before.load_network,
            data=before.data | contents,
        )
        if changed := "; ".join(differences(asdict(before), asdict(now))):
            if not config.resume_changed:
                raise UserError(
                    f"the checkpoint is of other settings ({changed}): change them back, set resume_changed, or start "
                    "another run with another exp_id or output"
                )
            logger.warning("resuming with other settings: %s", changed)
        return replace(now, load_network=before.load_network)


def find_starting_point(config: RunConfig) -> StartingPoint:
    """Read what a run starts from: its own newest checkpoint, or the file that `config` names.

    Raises:
        UserError: it cannot be read; or the folder holds an earlier run's files, which is not to be resumed.
    """
    folder = RunFolder(path=config.output / config.exp_id, name=config.exp_id)
    checkpoint = folder.newest_checkpoint() if config.resume else None
    if checkpoint is None:
        if not config.resume:
            folder.refuse_earlier_run()
        if config.load_checkpoint is not None:
            checkpoint = TrainingCheckpoint.read(config.load_checkpoint)
    if checkpoint is not None:
        network = XMem(checkpoint.network_config).eval()
        network.load_state_dict(checkpoint.stepper.network)
        return StartingPoint(
            name="the checkpoint", network=network, checkpoint=checkpoint, trained_on=checkpoint.trained_on
        )
    if (path := config.load_network) is not None:
        file = read_checkpoint(path)
        trained_on = TrainedOn.from_metadata(file.metadata, path.name)
        return StartingPoint(
            name=str(path), network=XMem.from_checkpoint(file).requires_grad_(True), trained_on=trained_on
        )
    return StartingPoint()


def digest_of(config: RunConfig) -> str | None:
    """Return the digest of the network file that `config` names, if there is one."""
    path = config.load_network
    return f"SHA-256 {sha256_of(path)[:16]}" if path is not None and path.exists() else None
