"""A device's peak in matrix products, and k-means beside it."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ifnd_tf.run.progress import Progress
from jax_runner.artifact import Artifact
from jax_runner.devices import Devices


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


def clustering(artifact: Artifact, progress: Progress, devices: Devices) -> dict[str, float | str]:
    """Times the k-means iteration that `lowering --kmeans` wrote, on random unit vectors.

    Returns:
        Seconds of an iteration, which is one pass over the points; those of its matrix product at
        the measured peak; and the device.
    """
    import jax
    import jax.numpy as jnp

    program = artifact.compile("kmeans", devices)
    shapes = {e["name"]: e["shape"] for e in program.inputs}
    (count, width), clusters = shapes["points"], shapes["centroids"][0]

    @jax.jit
    def unit_rows(key: Any) -> Any:
        rows = jax.random.normal(key, (count, width), jnp.float32)
        return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)

    rows = unit_rows(jax.random.key(0))
    points = devices.put(rows, sharded=True)
    index = devices.put(jnp.arange(count, dtype=jnp.int32), sharded=True)
    start = devices.put(rows[:clusters])
    seconds = _best_seconds(
        lambda: program([], points=points, index=index, centroids=start)["inertia"], repeats=3
    )
    passes = artifact.manifest["passes"]
    iteration, peak = seconds / passes, len(devices) * matmul_peak("float32")
    floor = 2.0 * count * clusters * width / peak
    progress.line(
        f"k-means of {count:,} x {width}, K = {clusters:,}, on {devices}: {iteration:.3f} s a pass "
        f"over the points (an iteration is one; this run made {passes}); its matrix product at "
        f"the measured {peak / 1e12:.1f} TFLOP/s takes {floor:.3f} s: {iteration / floor:.1f} "
        "times the floor"
    )
    return {"iteration_seconds": iteration, "product_seconds": floor, "device": str(devices)}
