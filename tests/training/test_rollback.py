"""Going back: as often as allowed, with another count each time."""

import pytest

from ifnd_tf.errors import NonFinite
from ifnd_tf.training.rollback import Rollbacks

pytestmark = pytest.mark.faults


class Diverging:
    """Diverges so many times, from step 7 on, then comes to its end."""

    def __init__(self, times):
        self.left, self.rollbacks, self.calls, self.said = times, Rollbacks(), [], []

    def go_on(self, step):
        self.calls.append((step, self.rollbacks.count))
        if self.left:
            self.left -= 1
            raise NonFinite("NaN")

    def restore(self):
        self.rollbacks.set_state(0)  # the checkpoint was taken before the first rollback
        return 5

    def run(self, most):
        self.rollbacks.run(self.go_on, 7, restore=self.restore, most=most, report=self.said.append)


def test_each_try_begins_at_the_checkpoint_with_a_count_of_its_own():
    run = Diverging(2)
    run.run(most=3)
    assert run.calls == [(7, 0), (5, 1), (5, 2)]
    assert run.said[1] == "rollback 2 of 3, to step 5: NaN"
    assert run.rollbacks.get_state() == 2


@pytest.mark.parametrize("most", [0, 2])
def test_it_gives_up_after_so_many(most):
    run = Diverging(10)
    with pytest.raises(NonFinite):
        run.run(most)
    assert len(run.calls) == most + 1
