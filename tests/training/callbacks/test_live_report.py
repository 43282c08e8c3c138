"""The report costs a small share of the time, and never the training."""

import io

import pytest

from ifnd_tf.run.progress import Progress
from ifnd_tf.training.callbacks.live_report import LiveReport


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def run(epochs, *, share, cost, seconds, fail=False):
    clock, written, out = Clock(), [], io.StringIO()

    def refresh(epoch):
        clock.now += cost
        written.append(epoch)
        if fail:
            raise OSError("disk full")

    live = LiveReport(refresh, share=share, progress=Progress(out), clock=clock)
    live.on_train_begin()
    for epoch in range(epochs):
        clock.now += seconds
        live.on_epoch_end(epoch)
    return written, out.getvalue(), clock.now


def test_the_first_comes_after_a_minute_and_the_others_within_the_share():
    written, _, total = run(200, share=0.01, cost=2.0, seconds=10.0)
    assert written[0] == 6
    assert 2.0 * len(written) <= 0.01 * total + 2.0
    assert len(written) >= 9  # 2,000 s allow 10; the share is used, not just kept


@pytest.mark.parametrize("share", [0.1, 0.001])
def test_a_larger_share_gives_more(share):
    written, _, _ = run(100, share=share, cost=1.0, seconds=100.0)
    assert len(written) == {0.1: 100, 0.001: 10}[share]


def test_a_run_of_less_than_a_minute_has_its_report_at_the_end_only():
    written, _, _ = run(5, share=0.1, cost=0.1, seconds=10.0)
    assert written == []


def test_a_report_that_fails_does_not_stop_the_training():
    written, said, _ = run(3, share=0.1, cost=0.1, seconds=60.0, fail=True)
    assert written == [1, 2, 3]
    assert "report.html not refreshed: OSError: disk full" in said
