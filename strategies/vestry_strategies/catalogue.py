"""Which metrics each kind of target has, and which way is better; which model fits which task.

Plain tables, so that a study file can be checked without loading torch.
"""

__all__ = ["DEFAULT_METRICS", "LOWER_IS_BETTER", "METRICS", "MODELS", "PRIMARY", "better"]

METRICS: dict[str, tuple[str, ...]] = {
    "binary": (
        "loss",
        "accuracy",
        "auc",
        "balanced_accuracy",
        "sensitivity",
        "specificity",
        "precision",
        "f1",
        "brier",
    ),
    "multiclass": ("loss", "accuracy", "balanced_accuracy", "macro_f1"),
    "regression": ("loss", "mse", "rmse", "mae", "r2"),
}
"""Every metric, by the type of the target."""

DEFAULT_METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("loss", "accuracy", "auc", "sensitivity", "specificity"),
    "multiclass": ("loss", "accuracy", "balanced_accuracy", "macro_f1"),
    "regression": ("loss", "rmse", "mae", "r2"),
}
"""What is reported where a study names none."""

PRIMARY: dict[str, str] = {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}
"""What decides the best model where a study does not say."""

LOWER_IS_BETTER = frozenset({"loss", "brier", "mse", "rmse", "mae"})
"""Metrics of which less is more."""

MODELS: dict[str, dict[str, tuple[str, ...]]] = {
    "tabular": {
        "binary": ("logistic", "mlp"),
        "multiclass": ("logistic", "mlp"),
        "regression": ("linear", "mlp"),
    },
    "image": {"binary": ("cnn", "logistic", "mlp"), "multiclass": ("cnn", "logistic", "mlp")},
    "plugin": {"binary": ("plugin",), "multiclass": ("plugin",), "regression": ("plugin",)},
}
"""Models by kind of task and type of target."""


def better(new: float, old: float, lower_is_better: bool, min_delta: float = 0.0) -> bool:
    """Is ``new`` better than ``old`` by more than ``min_delta``?"""
    return new < old - min_delta if lower_is_better else new > old + min_delta
