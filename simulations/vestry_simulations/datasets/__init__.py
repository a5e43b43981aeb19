"""Real data that come with Vestry, for the first minute."""

from importlib.resources import files
from pathlib import Path

__all__ = ["heart_data", "heart_private_study", "heart_study"]


def heart_data() -> Path:
    """UCI Heart Disease: 920 patients of four hospitals (see README.md beside it)."""
    return Path(str(files("vestry_simulations.datasets") / "heart_disease.csv"))


def heart_study() -> Path:
    """The study file of the demo."""
    return Path(str(files("vestry_simulations") / "studies" / "heart.toml"))


def heart_private_study() -> Path:
    """The study file of the private demo: the same patients at epsilon 3."""
    return Path(str(files("vestry_simulations") / "studies" / "heart_private.toml"))
