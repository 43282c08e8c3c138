"""The local devices that run a lowered program together, and arrays on them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ifnd_tf.errors import UserError

# The devices' axis in JAX' terms.
AXIS = "devices"


class Devices:
    """R devices, of which each runs one replica.

    An array is the same on all of them, or "sharded": dealt out by rows, n = N / R rounded up,
    of which device r holds r n to (r + 1) n - 1.

    Args:
        devices: JAX' devices.
        memory_bytes: what each has; None: as much as it says.
    """

    def __init__(self, devices: Sequence[Any], memory_bytes: float | None = None):
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        self.all, self._memory_bytes = tuple(devices), memory_bytes
        self.mesh = Mesh(np.array(devices), (AXIS,))
        self._specs = {False: PartitionSpec(), True: PartitionSpec(AXIS)}
        self._shardings = {
            sharded: NamedSharding(self.mesh, spec) for sharded, spec in self._specs.items()
        }

    def __len__(self) -> int:
        return len(self.all)

    def __str__(self) -> str:
        kind = self.all[0].device_kind
        return kind if len(self) == 1 else f"{len(self)} x {kind}"

    @property
    def memory_bytes(self) -> float | None:
        """The memory of each; None if it is unknown."""
        if self._memory_bytes is not None:
            return self._memory_bytes
        return (self.all[0].memory_stats() or {}).get("bytes_limit")

    def put(self, value: Any, *, sharded: bool = False) -> Any:
        """An array on the devices; a sharded one has R n rows already."""
        import jax

        return jax.device_put(value, self._shardings[sharded])

    def deal(self, rows: np.ndarray) -> Any:
        """Rows [N, ...], dealt out; the last ones repeat until all devices have as many."""
        padding = [(0, -len(rows) % len(self))] + [(0, 0)] * (rows.ndim - 1)
        return self.put(np.pad(rows, padding, mode="edge"), sharded=True)

    def spec(self, shape: Sequence[int], dtype: Any, *, sharded: bool) -> Any:
        """The description of an array that has this shape on each device."""
        import jax

        if sharded:
            shape = (len(self) * shape[0], *shape[1:])
        return jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=self._shardings[sharded])

    def on_each(
        self, function: Callable, inputs: Sequence[bool], outputs: Sequence[bool] | bool
    ) -> Callable:
        """A function of arrays, computed on each device with its own rows.

        Args:
            function: of the device's own arrays; may use JAX' collectives over `AXIS`.
            inputs, outputs: whether each is sharded.
        """
        import jax

        specs = self._specs
        made = specs[outputs] if isinstance(outputs, bool) else [specs[o] for o in outputs]
        return jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=tuple(specs[sharded] for sharded in inputs),
            out_specs=made,
            check_vma=False,
        )


@functools.cache
def chosen(numbers: str | None, count: int, memory_bytes: float | None) -> Devices:
    """The devices for a program of `count` replicas.

    Args:
        numbers: those to take, such as 4,5,6,7; None: the first.
        count: R.
        memory_bytes: see `Devices`.

    Raises:
        UserError: the machine has too few, or has none of these numbers.
    """
    import jax

    local = jax.local_devices()
    try:
        picked = range(count) if numbers is None else [int(part) for part in numbers.split(",")]
        fit = len(picked) == len(set(picked)) == count and max(picked) < len(local)
    except ValueError:
        fit = False
    if not fit or min(picked) < 0:
        raise UserError(
            f"--devices: expected {count} of the numbers 0 to {len(local) - 1}, as the run was "
            f"lowered for {count} devices and this machine has {len(local)} "
            f"({local[0].device_kind}). Received: {numbers or f'0 to {count - 1}'}; lower the run "
            "again with another --devices."
        )
    return Devices([local[number] for number in picked], memory_bytes)


@functools.cache
def taking(devices: Devices) -> Callable:
    """Sharded arrays [R n, ...] and sharded row numbers [B] -> those rows [B, ...], sharded.

    Any device may hold a row: each offers those it holds, zeros for the others, and the offers are
    summed.
    """
    import jax
    import jax.numpy as jnp
    from jax import lax

    def take(own: Any, rows: Any) -> Any:
        place = lax.all_gather(rows, AXIS, tiled=True) - lax.axis_index(AXIS) * len(own)
        here = (place >= 0) & (place < len(own))
        offered = jnp.take(own, place, axis=0, mode="clip")
        offered = jnp.where(here.reshape([-1] + [1] * (own.ndim - 1)), offered, 0)
        return lax.psum_scatter(offered, AXIS, tiled=True)

    return jax.jit(devices.on_each(take, (True, True), True))


def join(devices: Devices, parts: Sequence[Any], rows: int) -> Any:
    """Sharded arrays as one, each device's parts one after the other and cut to so many rows."""
    return _joining(devices, len(parts), rows)(*parts)


@functools.cache
def _joining(devices: Devices, count: int, rows: int) -> Callable:
    import jax
    import jax.numpy as jnp

    def joined(*own: Any) -> Any:
        return jnp.concatenate(own)[:rows]

    return jax.jit(devices.on_each(joined, [True] * count, True))
