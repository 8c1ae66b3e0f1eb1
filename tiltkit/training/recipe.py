"""The settings of a training: which images, which network, how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tiltkit.config import Table, validate
from tiltkit.errors import UsageError

__all__ = [
    "Augmentation", "DataOptions", "NetworkOptions", "ScansOptions", "TrainRecipe",
    "TrainingOptions", "resolve",
]  # fmt: skip

Augmentation = Literal["none", "natural", "mri", "microscopy"]
Positive = Annotated[int, Field(ge=1)]
# A text alone is short for a list with that one text.
OneOrMore = BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
# What a task decides about its scans.
_OF_THE_TASK = ("dataset", "axis", "channel_axis", "offset", "scale", "percentile", "noise")


class DataOptions(BaseModel):
    """Location of the images and meaning of their values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paths: Annotated[list[str], OneOrMore] = Field(
        min_length=1, description="files, folders or patterns such as scans/*.h5"
    )
    dataset: str = Field("", description="name of the dataset in HDF5 and npz files")
    axis: int | None = Field(
        None,
        description="axis that counts the slices of a volume; the last one in NIfTI, else the"
        " first one",
    )
    channel_axis: int | None = Field(
        None, description="axis of the channels, counted in the file; none when unset"
    )
    kind: Literal["magnitude", "complex"] = Field(
        "magnitude", description="complex images become two channels (re, im)"
    )
    channels: int = Field(1, ge=1, description="channels of a magnitude image")
    subject: str = Field(
        "", description="regular expression; what it matches in a file's path names its subject"
    )
    patient_id: bool = Field(
        True,
        description="whether equal PatientIDs in DICOM files mean the same person; false where"
        " anonymisation made all equal",
    )
    held_out: Annotated[Annotated[float, Field(gt=0, lt=1)] | list[str], OneOrMore] = Field(
        0.15, description="share of the subjects to measure on, or their names"
    )
    offset: float = Field(
        0.0, allow_inf_nan=False, description="added to values first: 1024 for CT in Hounsfield"
    )
    scale: Literal["subject", "all"] | Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        "subject",
        description="what becomes 1: the percentile of each subject, of all, or a value",
    )
    percentile: float = Field(
        99.0, gt=0, le=100, description="percentile of what is brighter than a tenth of the top"
    )
    noise: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="standard deviation of the noise in the images, in units of the files;"
        " above 0 the prior is that of the images without it",
    )
    augment: Augmentation = Field("none", description="what may be changed about the images")
    bright: float = Field(
        0.0, ge=0, lt=1,
        description="share of the pieces that are made up to ten times too bright",
    )  # fmt: skip
    title: str = Field("own images", description="what the images are, for the model card")
    licence: str = Field("not stated", description="licence of the images, for the model card")


class ScansOptions(BaseModel):
    """Reconstruction of images where the paths are scans, see `tiltkit.training.rounds`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Table = Field(description="task that opens the scans, and its options")
    rounds: int = Field(
        6, ge=1, le=1000, description="times that images are drawn and learned from"
    )
    first: Table = Field(
        {"name": "gaussian"}, description="prior that the images of the first round are drawn with"
    )
    sampler: Table = Field(
        {"name": "twisted"}, description="sampler that draws them, with its quality draft"
    )


class NetworkOptions(BaseModel):
    """The shape of the network, see `tiltkit.priors.network.ScoreUNet`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: list[Positive] = Field(
        [32, 64, 96, 128], min_length=1, description="features per resolution, finest first"
    )
    blocks: list[Positive] = Field(
        [3, 3, 2, 1], min_length=1, description="blocks per resolution, finest first"
    )
    sigma_min: float = Field(0.01, gt=0, description="smallest noise level; bright pixels are 1")
    sigma_max: float = Field(5.0, gt=0, le=1000, description="largest noise level")
    start: str = Field(
        "",
        description="weights to begin with, of a network of the same widths and blocks; where its"
        " channels are others, those that both have",
    )


class TrainingOptions(BaseModel):
    """The optimiser and its budget."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int | None = Field(None, ge=1, description="budget in steps of the optimiser")
    minutes: float | None = Field(None, gt=0, description="budget in minutes of wall time")
    crop: int = Field(96, ge=8, description="side in pixels of the pieces trained on")
    batch: int = Field(16, ge=1, description="pieces per step, over all devices")
    rate: float = Field(5e-4, gt=0, lt=1, description="highest learning rate")
    average: float = Field(0.9995, ge=0, lt=1, description="decay of the average of the weights")
    checks: int = Field(20, ge=1, description="measurements on held-out images while training")
    patience: int = Field(8, ge=1, description="checks without improvement that end the training")
    save_minutes: float = Field(3.0, gt=0, description="minutes between savings of the state")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="numbers inside the network; auto is bfloat16 where hardware supports it",
    )
    compile: bool = Field(False, description="compile the network; needs a C++ compiler")
    workers: int | None = Field(
        None, ge=0, description="processes per device that load images; 1 for a CPU, 6 for a GPU"
    )


class TrainRecipe(BaseModel):
    """All settings of `tiltkit train`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataOptions
    scans: ScansOptions | None = None
    network: NetworkOptions = NetworkOptions()
    training: TrainingOptions
    output: str = Field("prior.safetensors", description="weights file to write")
    seed: int = Field(0, ge=0, lt=2**63, description="the same seed gives the same training")
    device: str = Field("auto", description="auto, cpu, cuda, or several as cuda:0,cuda:1")
    threads: int | None = Field(
        None, ge=1, le=1024, description="threads of the CPU; when unset, the command line takes"
        " all processors that it may use, and Python calls leave torch as it is"
    )  # fmt: skip

    @property
    def channels(self) -> int:
        """Channels of the network."""
        return 2 if self.data.kind == "complex" else self.data.channels


TABLES: dict[str, type[BaseModel]] = {
    "data": DataOptions,
    "scans": ScansOptions,
    "network": NetworkOptions,
    "training": TrainingOptions,
}


def resolve(values: Mapping[str, Any]) -> TrainRecipe:
    """The complete recipe of plain values.

    Raises:
        UsageError: A setting that does not exist, is missing, or does not fit the others.
    """
    tables = {
        name: validate(model, _table(values, name), name)
        for name, model in TABLES.items()
        if name != "scans" or name in values
    }
    recipe = validate(TrainRecipe, {**values, **tables}, "")
    _check_training(recipe)
    _check_images(recipe)
    if recipe.scans:
        _refuse_unused(recipe.data, recipe.scans, recipe.training)
    return recipe


def _check_training(recipe: TrainRecipe) -> None:
    """Refuse a budget, an output or a network that is not consistent."""
    network, training = recipe.network, recipe.training
    if (training.steps is None) == (training.minutes is None):
        raise UsageError(
            f"The training has {'no budget' if training.steps is None else 'two budgets'}.",
            "set either training.steps or training.minutes.",
        )
    if not recipe.output.endswith(".safetensors"):
        raise UsageError(
            f"The output {recipe.output} does not end in .safetensors.",
            "name it so: the model card and the page get the same name with .md and .html.",
        )
    if len(network.widths) != len(network.blocks):
        raise UsageError(
            f"network.widths has {len(network.widths)} numbers and network.blocks"
            f" {len(network.blocks)}.",
            "give both one number per resolution.",
        )
    if network.sigma_min >= network.sigma_max:
        raise UsageError(
            f"network.sigma_min is {network.sigma_min:g}, not below network.sigma_max,"
            f" {network.sigma_max:g}.",
            "leave both out, or choose them apart.",
        )


def _check_images(recipe: TrainRecipe) -> None:
    """Refuse changes of the images that their kind or their noise does not allow."""
    data = recipe.data
    if data.kind == "complex" and data.channels != 1:
        raise UsageError(
            f"data.channels is {data.channels}, but complex images have one channel here.",
            "leave data.channels out: the network gets two channels, re and im.",
        )
    if data.kind == "complex" and data.offset:
        raise UsageError(
            f"data.offset is {data.offset:g}, but nothing can be added to complex images.",
            "leave data.offset out, or set data.kind = 'magnitude'.",
        )
    if data.augment == "mri" and data.kind == "magnitude":
        raise UsageError(
            "data.augment = 'mri' makes up phases, which magnitude images do not have.",
            "set data.kind = 'complex' (also for files of magnitudes), or another augmentation.",
        )
    if data.augment != "none" and data.noise > 0:
        raise UsageError(
            f"data.augment = {data.augment!r} would change the noise in the images.",
            "leave it out where data.noise is set.",
        )
    if data.bright and (data.noise > 0 or recipe.scans):
        raise UsageError(
            f"data.bright = {data.bright:g} would change the noise in the images.",
            "leave it out where data.noise is set, and where images are drawn from scans.",
        )


def _refuse_unused(data: DataOptions, scans: ScansOptions, training: TrainingOptions) -> None:
    """Refuse settings that have no effect on scans."""
    plain = {name: field.default for name, field in DataOptions.model_fields.items()}
    unused = [name for name in _OF_THE_TASK if getattr(data, name) != plain[name]]
    if unused:
        raise UsageError(
            f"data.{unused[0]} is set, but the task {scans.task['name']} decides it for its scans.",
            f"leave out data.{unused[0]}, or give the task an option in [scans.task].",
        )
    if training.steps is not None and training.steps < scans.rounds:
        raise UsageError(
            f"training.steps = {training.steps} cannot be shared by {scans.rounds} rounds.",
            "give more steps or fewer scans.rounds.",
        )


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = values.get(name, {})
    if not isinstance(table, Mapping):
        raise UsageError(
            f"The setting {name} is {table!r}, but must be a table.", f"write [{name}] above it."
        )
    return dict(table)
