"""A peer for tests/benchmarks/test_peer.py."""

from benchmarks.peers.serving import serve


def double(value):
    print("noise that must not be taken for the answer")
    return value * 2


if __name__ == "__main__":
    serve(double)
