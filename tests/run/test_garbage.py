"""The collector is off within, searches nothing that was made there, and comes rarely after it."""

import gc

from ifnd_tf.run.garbage import rarely_collected


def test_what_is_made_within_is_not_searched():
    before = gc.get_threshold()
    gc.unfreeze()
    try:
        with rarely_collected():
            assert not gc.isenabled()
            made = [[] for _ in range(1000)]
        assert gc.isenabled() and gc.get_threshold()[0] > 10_000
        assert gc.get_freeze_count() > len(made)
    finally:
        gc.set_threshold(*before)
