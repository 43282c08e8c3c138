"""The order of an epoch, as `tf.random.experimental.index_shuffle` gives it, in NumPy.

A block cipher on a range of numbers is a permutation of it that needs no memory; what falls
outside the range is enciphered until it falls inside (cycle walking). The cipher is Simon
(Beaulieu et al. 2013, eprint 2013/404) with four rounds and any even block size, as in
TensorFlow: the runner must see the batches that `fit` sees.
"""

import math

import numpy as np

_CONSTANT = 0xFFFFFFFC ^ 1  # with the first bit of the cipher's fixed sequence
_LEAST_BLOCK = 16
# TensorFlow's kernel wants three words of seed, its function takes two and puts this first.
_FIRST_WORD = 498247692

# As in `ifnd_tf.data.permutation`.
_TOO_SHORT = tuple(4**power for power in range(8, 16))


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """All of 0 to N - 1 in the order of an epoch.

    Args:
        count: N >= 1.
        seed: of the run.
        epoch: from 0.

    Returns:
        int32 [N].
    """
    if count == 1:
        return np.zeros(1, np.int32)
    last = count if count - 1 in _TOO_SHORT else count - 1
    word = max(math.ceil(math.log2(last)), _LEAST_BLOCK)
    word = (word + word % 2) // 2
    keys = _round_keys((_FIRST_WORD, seed & 0x7FFFFFFF, epoch), word)
    order = np.arange(count, dtype=np.uint64)
    outside = np.ones(count, bool)
    while outside.any():
        order[outside] = _encipher(order[outside], keys, word)
        outside = order >= count
    return order.astype(np.int32)


def _round_keys(key: tuple[int, int, int], word: int) -> list[int]:
    """Four round keys: the three words of `key`, and one that Simon derives from them."""
    mask = (1 << word) - 1
    keys = [part & mask for part in key]
    turned = _right(keys[2], 3, word) ^ _right(keys[2], 4, word)
    return [*keys, _CONSTANT & mask ^ keys[0] ^ turned]


def _right(x: int, by: int, word: int) -> int:
    return ((x >> by) | (x << (word - by))) & ((1 << word) - 1)


def _encipher(values: np.ndarray, keys: list[int], word: int) -> np.ndarray:
    mask, size = np.uint64((1 << word) - 1), np.uint64(word)

    def left(x: np.ndarray, by: int) -> np.ndarray:
        return ((x << np.uint64(by)) | (x >> np.uint64(word - by))) & mask

    def mixed(x: np.ndarray) -> np.ndarray:
        return (left(x, 1) & left(x, 8)) ^ left(x, 2)

    high, low = (values >> size) & mask, values & mask
    for first, second in zip(keys[::2], keys[1::2], strict=True):
        high = high ^ mixed(low) ^ np.uint64(first)
        low = low ^ mixed(high) ^ np.uint64(second)
    return (high << size) | low
