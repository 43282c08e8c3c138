"""`--mode=report`: the report of a run."""

from ifnd_tf.report import run_page
from ifnd_tf.stages.run import Run


def write_report(run: Run) -> None:
    """Writes report.html."""
    if run.directory.writer:
        run.progress.detail(f"report {run_page.write(run.directory.path)}")
