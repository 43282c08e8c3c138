"""Evaluation is timed on features that can be told apart, alone where no peer is installed."""

import functools

import pytest

from benchmarks import evaluation, peer


@pytest.mark.slow
def test_without_peers_our_protocols_are_timed_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peer, "started", functools.partial(peer.started, environment=tmp_path))
    monkeypatch.setattr(evaluation, "TRAIN", 1000)
    monkeypatch.setattr(evaluation, "TEST", 200)
    found = list(evaluation.compared(rounds=1))
    assert [row.case.partition(",")[0] for row in found] == ["kNN", "linear probe", "clustering"]
    assert all(row.ours > 0 and not row.peer_name for row in found)
    assert "make bench-peers" in capsys.readouterr().err
    own = evaluation.protocols(*evaluation.features())
    assert all(0.3 < protocol() < 1 for protocol in own.values())  # neither chance nor trivial
