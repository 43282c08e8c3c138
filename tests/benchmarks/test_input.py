"""The files that input is timed on, and rows without any peer."""

import functools

import pytest
import tensorflow as tf

from benchmarks import input as benchmark
from benchmarks import peer


def test_files_have_their_size_and_the_content_of_photographs(tmp_path):
    for size in ((375, 500), (32, 32)):
        benchmark.write_photos(tmp_path, *size, count=3)
        files = sorted(tmp_path.glob("*.jpg"))
        decoded = [tf.io.decode_jpeg(file.read_bytes()).numpy() for file in files]
        assert len(files) == 3 and {image.shape for image in decoded} == {(*size, 3)}
        assert min(image.std() for image in decoded) > 10


@pytest.mark.slow
def test_without_peers_our_side_is_shown_and_what_installs_them(tmp_path, monkeypatch, capsys):
    nowhere = functools.partial(peer.started, environment=tmp_path)
    monkeypatch.setattr(peer, "started", nowhere)
    monkeypatch.setattr(benchmark, "FILES", 8)
    monkeypatch.setattr(benchmark, "BATCH", 4)
    monkeypatch.setattr(benchmark, "BATCHES", 1)
    benchmark.write_photos(tmp_path, 32, 32, count=8)
    settings = {"strength": 0.5, "blur": False}
    found = list(benchmark._compare("32 px", tmp_path, 32, (), settings, str(tmp_path), 1))
    assert [row.peer_name for row in found] == ["decoding", ""]
    assert min(row.ours for row in found) > 0
    told = capsys.readouterr().err
    assert "make bench-peers" in told and "git clone" in told
