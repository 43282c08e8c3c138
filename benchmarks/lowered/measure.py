"""What the device can do at best, and how near k-means comes."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.lowered.artifact import Artifact
from ifnd_tf.progress import Progress


def _best_seconds(run: Callable[[], Any], repeats: int = 5) -> float:
    """The shortest of some runs, each waited for, after one that warms up."""
    import jax

    jax.block_until_ready(run())
    seconds = []
    for _ in range(repeats):
        start = time.monotonic()
        jax.block_until_ready(run())
        seconds.append(time.monotonic() - start)
    return min(seconds)


def matmul_peak(dtype: str) -> float:
    """Measured operations a second of the best of a few large square products.

    Args:
        dtype: float32 or bfloat16, as the encoder computes.
    """
    import jax
    import jax.numpy as jnp

    sizes = (512, 1024) if jax.default_backend() == "cpu" else (4096, 8192)
    product = jax.jit(jnp.matmul)
    best = 0.0
    for size in sizes:
        rows = np.random.default_rng(0).standard_normal((size, size), np.float32)
        x = jax.device_put(rows).astype(dtype)
        seconds = _best_seconds(lambda x=x: product(x, x))  # type: ignore[misc]
        best = max(best, 2.0 * size**3 / seconds)
    return best


def clustering(artifact: Artifact, progress: Progress, memory_bytes: float | None) -> float:
    """Times the k-means iteration that `benchmarks.lower --kmeans` wrote, on random unit vectors.

    Returns:
        Seconds of an iteration, the move and the pass that scores, over those of its two matrix
        products at the measured peak.
    """
    import jax
    import jax.numpy as jnp

    program = artifact.compile("kmeans", memory_bytes)
    shapes = {e["name"]: e["shape"] for e in program.inputs}
    (count, width), clusters = shapes["points"], shapes["centroids"][0]

    @jax.jit
    def unit_rows(key: Any) -> Any:
        rows = jax.random.normal(key, (count, width), jnp.float32)
        return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)

    points = unit_rows(jax.random.key(0))
    index = jnp.arange(count, dtype=jnp.int32)
    start = points[:clusters]
    seconds = _best_seconds(
        lambda: program([], points=points, index=index, centroids=start)["inertia"], repeats=3
    )
    peak = matmul_peak("float32")
    passes = artifact.manifest["passes"]
    floor = passes * 2.0 * count * clusters * width / peak
    progress.line(
        f"k-means of {count:,} x {width}, K = {clusters:,}, on {jax.devices()[0].device_kind}: "
        f"{seconds / passes:.3f} s a pass over the points (an iteration is one; this run made "
        f"{passes}); its matrix product at the measured {peak / 1e12:.1f} TFLOP/s takes "
        f"{floor / passes:.3f} s: {seconds / floor:.1f} times the floor"
    )
    return seconds / floor
