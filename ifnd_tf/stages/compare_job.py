"""The entry point of a job of a comparison: hides what TensorFlow prints while it starts."""

from multiprocessing.connection import Connection

from ifnd_tf.run.quiet_start import quiet_start


def work(connection: Connection) -> None:
    """Trains and evaluates the runs that come by the connection, until that is closed."""
    with quiet_start():
        from ifnd_tf.stages import compare_job_runs
    compare_job_runs.serve(connection)
