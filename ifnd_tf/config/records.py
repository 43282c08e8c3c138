"""Settings of the report and of trackers."""

import dataclasses

from ifnd_tf.config.setting import changeable


@dataclasses.dataclass(frozen=True)
class Records:
    """Records: report and trackers, besides the terminal and TensorBoard."""

    report_examples: int = changeable(
        5000,
        "Training images to embed for the report's map, nearest neighbours and clusters. "
        "0: the report shows no images.",
        low=0,
    )
    report_share: float = changeable(
        0.005,
        "Largest share of the training time for refreshing report.html; 0: written at the end "
        "only.",
        low=0,
        high=0.1,
    )
    wandb: bool = changeable(False, "Also log to Weights & Biases; needs the package wandb.")
    mlflow: bool = changeable(False, "Also log to MLflow; needs the package mlflow.")
