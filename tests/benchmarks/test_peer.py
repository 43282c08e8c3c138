"""A peer answers calls from a process of its own, and one that is missing says what installs it."""

import pathlib
import sys

import pytest

from benchmarks import peer


def test_a_missing_peer_names_the_command_that_installs_it(tmp_path, capsys):
    with peer.started("clustering", "faiss-cpu", tmp_path) as other:
        assert other is None
    message = "faiss-cpu: not installed; `make bench-peers` installs them.\n"
    assert capsys.readouterr().err == message


def test_a_peer_answers_and_may_print():
    other = peer.Peer("echo", pathlib.Path(sys.executable), package="tests.benchmarks")
    try:
        assert other.call("double", value=[1, 2]) == [1, 2, 1, 2]
        assert other.call("double", value="a") == "aa"
        with pytest.raises(RuntimeError, match="the peer ended in missing"):
            other.call("missing")
    finally:
        other.close()
