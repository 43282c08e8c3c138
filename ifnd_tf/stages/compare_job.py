"""Where a job of a comparison starts, without a word of what TensorFlow prints at its start."""

from multiprocessing.connection import Connection

from ifnd_tf.run.quiet_start import quiet_start


def work(connection: Connection) -> None:
    """Trains and evaluates the runs that it is sent, until the connection is closed."""
    with quiet_start():
        from ifnd_tf.stages import compare_job_runs
    compare_job_runs.serve(connection)
