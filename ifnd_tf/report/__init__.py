"""A run as pictures: one self-contained HTML page."""

from ifnd_tf.report.run_report import write

__all__ = ["write"]
