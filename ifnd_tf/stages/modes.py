"""The function of each --mode."""

from collections.abc import Callable

from ifnd_tf.stages.check import check
from ifnd_tf.stages.compare import compare
from ifnd_tf.stages.embed import write_embeddings
from ifnd_tf.stages.evaluate import evaluate
from ifnd_tf.stages.export import export_model
from ifnd_tf.stages.report import write_report
from ifnd_tf.stages.run import Run
from ifnd_tf.stages.train import train

STAGES: dict[str, Callable[[Run], None]] = {
    "check": check,
    "train": train,
    "evaluate": evaluate,
    "export": export_model,
    "embed": write_embeddings,
    "report": write_report,
    "compare": compare,
}


def run_stages(run: Run) -> None:
    """Runs the stages of `--mode` in the order given."""
    with run.in_progress():
        for name in run.given.stages:
            STAGES[name](run)
