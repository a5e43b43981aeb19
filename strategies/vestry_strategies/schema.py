"""The data contract of a study: what a row looks like at every site.

Only declarations; `tasks/` reads and encodes data by them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "BooleanFeature",
    "CategoryFeature",
    "Feature",
    "ImageTask",
    "NumberFeature",
    "PluginTask",
    "Section",
    "TabularTask",
    "Target",
    "TaskSpec",
]

Name = Annotated[str, Field(min_length=1, max_length=200)]


class Section(BaseModel):
    """A table of a study file: frozen, strict, no unknown keys."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


class NumberFeature(Section):
    """A number, standardised before it reaches the model."""

    name: Name = Field(description="Column of the data file.")
    type: Literal["number"]
    range: tuple[float, float] | None = Field(
        default=None, description="Allowed [lowest, highest]; a row outside is refused."
    )
    missing: Literal["refuse", "mean", "drop-row"] = Field(
        default="refuse",
        description="An empty field is refused, or replaced by the mean over all sites with an "
        "indicator column added, or its row is left out.",
    )
    missing_codes: tuple[float, ...] = Field(
        default=(), description="Numbers that stand for 'not measured', such as 0 or -9."
    )
    typical: tuple[float, float] | None = Field(
        default=None,
        description="Public [mean, deviation] for standardise = 'declared', from a text book and not from "
        "the data. Default: the middle of the range and a quarter of its width.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "NumberFeature":
        if self.typical is not None and not self.typical[1] > 0:
            raise ValueError(f"typical {list(self.typical)} needs a deviation above 0: [mean, deviation]")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range {list(self.range)} is empty; write [lowest, highest]")
        return self


def _declares(feature: NumberFeature) -> bool:
    return feature.range is not None or feature.typical is not None


class BooleanFeature(Section):
    """A yes or no: 0/1, true/false or yes/no in the file, 0 or 1 for the model."""

    name: Name = Field(description="Column of the data file.")
    type: Literal["boolean"]
    missing: Literal["refuse", "mean", "drop-row"] = Field(
        default="refuse", description="As for numbers; the mean of a boolean is its share of yes."
    )


class CategoryFeature(Section):
    """One of a closed list of categories, one column each for the model."""

    name: Name = Field(description="Column of the data file.")
    type: Literal["category"]
    categories: tuple[str, ...] = Field(
        min_length=2, description="Every category that may occur, in the order of the columns."
    )
    missing: Literal["refuse", "category", "drop-row"] = Field(
        default="refuse",
        description="An empty field is refused, or is a category of its own, or its row is left out.",
    )

    @model_validator(mode="after")
    def _distinct(self) -> "CategoryFeature":
        if len(set(self.categories)) != len(self.categories) or "" in self.categories:
            raise ValueError("categories must be distinct and not empty")
        return self


Feature = Annotated[NumberFeature | BooleanFeature | CategoryFeature, Field(discriminator="type")]


class Target(Section):
    """What the model predicts."""

    name: Name = Field(description="Column of the data file (for images: the array of labels).")
    type: Literal["binary", "multiclass", "regression"]
    classes: tuple[str, ...] | None = Field(
        default=None,
        description="Every label; for a binary target [negative, positive]. Not for regression.",
    )
    range: tuple[float, float] | None = Field(
        default=None, description="Allowed [lowest, highest] of a regression target."
    )
    class_weights: tuple[float, ...] | None = Field(
        default=None,
        description="A public constant for each class that multiplies its examples' loss.",
    )

    @model_validator(mode="after")
    def _fits(self) -> "Target":
        if self.type == "regression":
            if self.classes is not None or self.class_weights is not None:
                raise ValueError("a regression target has no classes; remove classes, class_weights")
            if self.range is not None and self.range[0] >= self.range[1]:
                raise ValueError(f"range {list(self.range)} is empty; write [lowest, highest]")
            return self
        if self.range is not None:
            raise ValueError("range is for regression; remove it or set type = 'regression'")
        _check_classes(self.type, self.classes)
        if self.class_weights is not None:
            if len(self.class_weights) != len(self.classes or ()):
                raise ValueError("class_weights needs one number for each class")
            if min(self.class_weights) <= 0:
                raise ValueError("class_weights must be above 0")
        return self

    @property
    def outputs(self) -> int:
        """Width of the model's last layer."""
        return len(self.classes or ()) if self.type == "multiclass" else 1


def _check_classes(kind: str, classes: tuple[str, ...] | None) -> None:
    if classes is None:
        raise ValueError(f"a {kind} target needs classes, such as classes = ['0', '1']")
    if len(set(classes)) != len(classes):
        raise ValueError("classes must be distinct")
    if kind == "binary" and len(classes) != 2:
        raise ValueError(f"a binary target needs 2 classes, not {len(classes)}; use 'multiclass'")
    if kind == "multiclass" and len(classes) < 3:
        raise ValueError(f"a multiclass target needs 3 or more classes, not {len(classes)}")


class TabularTask(Section):
    """Rows of a delimited text file."""

    kind: Literal["tabular"]
    target: Target
    features: tuple[Feature, ...] = Field(min_length=1)
    delimiter: Literal[",", ";", "\t", "|"] = Field(
        default=",", description="What separates the fields of a data file."
    )
    standardise: Literal["shared", "per-site", "declared", "none"] = Field(
        default="shared",
        description="One mean and deviation over all sites (round 0), or each site its own. "
        "Per site throws away how the sites differ in prevalence. 'declared' takes the study's own "
        "constants (range, typical) and reads no data: it costs no privacy.",
    )
    drop_first: bool = Field(
        default=False, description="Leave the first category of each feature without a column."
    )

    @model_validator(mode="after")
    def _columns(self) -> "TabularTask":
        names = [feature.name for feature in self.features]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"features {doubled} are declared twice")
        if self.target.name in names:
            raise ValueError(f"the target '{self.target.name}' is also a feature; remove one")
        if self.standardise == "none" and any(feature.missing == "mean" for feature in self.features):
            raise ValueError("missing = 'mean' needs standardise = 'shared', 'per-site' or 'declared'")
        if self.standardise == "declared":
            bare = [f.name for f in self.features if isinstance(f, NumberFeature) and not _declares(f)]
            if bare:
                raise ValueError(f"standardise = 'declared' needs range or typical of features {bare}")
            if self.target.type == "regression" and self.target.range is None:
                raise ValueError("standardise = 'declared' needs the target's range")
        return self


class ImageTask(Section):
    """Arrays of images in a .npz file: `images` (N, H, W) or (N, H, W, C), and the labels."""

    kind: Literal["image"]
    target: Target
    images: Name = Field(default="images", description="Name of the array of images.")
    height: int = Field(ge=4, le=4096)
    width: int = Field(ge=4, le=4096)
    channels: int = Field(default=1, ge=1, le=64)
    value_range: tuple[float, float] = Field(
        default=(0.0, 255.0), description="Allowed pixel values; scaled to [0, 1]."
    )
    standardise: Literal["shared", "per-site", "declared", "none"] = Field(
        default="shared",
        description="Mean and deviation of each channel; 'declared' takes .5 and .5 and reads no data.",
    )

    @model_validator(mode="after")
    def _fits(self) -> "ImageTask":
        if self.target.type == "regression":
            raise ValueError("an image task needs a binary or multiclass target")
        if self.value_range[0] >= self.value_range[1]:
            raise ValueError("value_range is empty; write [lowest, highest]")
        return self


class PluginTask(Section):
    """A task of a third party, imported only where its name is on the site's allow-list."""

    kind: Literal["plugin"]
    plugin: Name = Field(description="Name of the entry point in the group 'vestry.tasks'.")
    target: Target
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="Read by the plug-in."
    )


TaskSpec = Annotated[TabularTask | ImageTask | PluginTask, Field(discriminator="kind")]
