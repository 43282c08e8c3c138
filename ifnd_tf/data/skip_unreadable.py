"""Images that turn out to be unreadable while training are skipped, and named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

Example = dict[str, tf.Tensor]

# Words of the error that ends a run whose images cannot be read any more.
UNREADABLE = "images in a row could not be read"


def skip_unreadable(
    batches: tf.data.Dataset,
    cut: Callable[[Example, tf.Tensor], Example],
    rows: int,
    note: Callable[[int, int], Any],
    first: int | tf.Tensor = 0,
) -> tf.data.Dataset:
    """Examples, with a copy of the next readable one in place of each unreadable one.

    So one bad file does not move every later example to another batch, and a resumed run and
    other numbers of replicas still see the same batches. Every batch is followed by a mark that
    needs no file: without one, a folder that vanished would be skipped for ever.

    Args:
        batches: dicts of tensors that share their first axis.
        cut: makes an example of a row; of a mark (second argument False), without any file.
        rows: of a batch.
        note: called with the first number and the count of elements that failed; the numbers
            count marks too.
        first: number of the first batch, so that elements count from `first * (rows + 1)`.

    Raises:
        tf.errors.InvalidArgumentError: when run, with `UNREADABLE`, if two batches' worth of
            examples fail in a row.
    """

    def marked(batch: Example) -> tuple[Example, tf.Tensor]:
        longer = {name: tf.concat([value, value[:1]], axis=0) for name, value in batch.items()}
        return longer, tf.range(rows + 1) < rows

    begin = tf.cast(first, tf.int64) * (rows + 1)
    numbered = batches.map(marked).unbatch().enumerate(begin)
    read = numbered.map(
        lambda number, element: (number, element[1], cut(*element)),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).ignore_errors(log_warning=False)
    most, nothing = max(2 * rows, 64), tf.constant(0, tf.int64)

    def noted(first: np.ndarray, count: np.ndarray) -> np.int64:
        note(int(first), int(count))
        return np.int64(0)

    def count(state: tuple, element: tuple) -> tuple:
        (last, owed), (number, real, example) = state, element
        lost = number - last - 1
        written = tf.cond(
            lost > 0,
            lambda: tf.numpy_function(noted, [last + 1, lost], tf.int64),
            lambda: nothing,
        )
        owed += lost + written
        vanished = tf.debugging.Assert(owed < most, [f"{most} {UNREADABLE}"])
        with tf.control_dependencies([vanished]):
            copies = tf.where(real, owed + 1, nothing)
        return (number, tf.where(real, nothing, owed)), (copies, example)

    start = (begin - 1, nothing)
    return read.scan(start, lambda state, element: count(state, element)).flat_map(
        lambda copies, example: tf.data.Dataset.from_tensors(example).repeat(copies)
    )
