"""The collector is off within, searches nothing that was made there, and comes rarely after it."""

import gc

from ifnd_tf.run.garbage import rarely_collected


def test_what_is_made_within_is_not_searched():
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        with rarely_collected():
            assert not gc.isenabled()
            made = [[] for _ in range(1000)]
        assert gc.isenabled() and gc.get_threshold()[0] > 10_000
        assert gc.get_freeze_count() >= frozen + len(made)
    finally:
        gc.set_threshold(*before)
