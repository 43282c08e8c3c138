"""A session on a machine with an accelerator: packs the inputs, runs, and packs the results.

    python -m jax_runner.accelerator pack lowered --images=cifar10.tgz --out=pack.tar.xz
    python -m jax_runner.accelerator run pack.tar.xz --out=DIR --minutes=9

`pack` needs what `lowering` wrote (a run, or a folder of runs and of k-means) and an archive of
class folders. `run` measures first, PyTorch and then k-means, trains, and packs the results; the
same command continues where the last one stopped. It needs JAX, NumPy and Pillow; and
PyTorch for the peer.

DIR gets `runs.tar.gz` (metrics, detections, results, flags; no state) and, for each finished run,
the query network in float16: `NAME.weights.0.npz`, `NAME.weights.1.npz`, ..., which
`lowering.lift` reads.
"""

import argparse
import json
import lzma
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ifnd_tf.errors import UserError
from jax_runner.artifact import Artifact, artifacts_in
from jax_runner.run_directory import STATE, weight_files

ROOT = Path(__file__).resolve().parents[1]
# The largest pack, and the largest file that comes back, in bytes.
MOST_PACKED, MOST_WEIGHTS = 60_000_000, 14_000_000
# Of the session's time: the peer's share, and what packing the results takes.
_PEER_SECONDS, _PACKING_SECONDS = 120, 15
# Two bits of position and of context suit float32, whose random mantissas otherwise grow.
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 2, "lp": 2, "pb": 2}]


def pack(lowered: Path, images: Path, out: Path) -> int:
    """Writes lowered runs and the images' archive to one .tar.xz; returns its bytes.

    Raises:
        UserError: something is missing, or the pack is too large to be carried.
    """
    artifacts = artifacts_in(lowered)
    if not images.is_file():
        raise UserError(
            f"--images: expected an archive of class folders, FILE.tgz. Received: {images}."
        )
    # A run alone keeps its folder's name.
    root = lowered.parent if (lowered / "manifest.json").exists() else lowered
    shared = {artifact.folder / artifact.manifest.get("initial", "") for artifact in artifacts}
    files = {path for artifact in artifacts for path in artifact.folder.iterdir()} | shared
    with (
        lzma.open(out, "wb", filters=_LZMA) as file,
        tarfile.open(fileobj=file, mode="w") as archive,
    ):
        for path in sorted({path.resolve() for path in files if path.is_file()}):
            archive.add(path, path.relative_to(root.resolve()))
        archive.add(images, "images.tgz")
    size = out.stat().st_size
    if size > MOST_PACKED:
        raise UserError(
            f"{out}: expected at most {MOST_PACKED / 1e6:.0f} MB. Received: {size / 1e6:.1f} MB; "
            "pack fewer runs, or smaller images."
        )
    return size


def unpack(source: Path) -> Path:
    """The folder of a pack, unpacked beside it once."""
    if source.is_dir():
        return source
    folder = source.with_name(source.name.removesuffix(".tar.xz"))
    if not folder.exists():
        begun = folder.with_name(f"{folder.name}.new")  # renamed once it is whole
        try:
            with tarfile.open(source) as archive:
                archive.extractall(begun, filter="data")
            begun.rename(folder)
        except (OSError, tarfile.TarError) as error:
            raise UserError(
                f"expected a pack, FILE.tar.xz. Received: {source} ({error})."
            ) from error
    return folder


def decoded_images(folder: Path) -> Path:
    """The images as FILE.npz, decoded once."""
    decoded = folder / "images.npz"
    if not decoded.exists():
        part = folder / "images.part.npz"  # a session may be killed at any time
        _run("jax_runner.pixels", folder / "images.tgz", part)
        part.rename(decoded)
    return decoded


def measure_peer(data: Path, runs: Path) -> None:
    """PyTorch's images a second with the same recipe, once for each directory of runs."""
    path = runs / "peer.json"
    if not path.exists():
        runs.mkdir(parents=True, exist_ok=True)
        options = (f"--data={data}", "--epochs=4", f"--json={path}")
        _run("benchmarks.peers.moco_torch", *options, timeout=_PEER_SECONDS)


def write_weights(run: Path, artifact: Artifact, target: Path) -> None:
    """The query network of a state in float16, in files of at most `MOST_WEIGHTS` bytes.

    Args:
        run: the run directory.
        artifact: says which variables are the query network's.
        target: the files' names up to the suffix .weights.0.npz.
    """
    with np.load(run / STATE) as state:
        arrays = {
            str(number): state[str(number)].astype(np.float16)
            for number in artifact.manifest["query"]
        }
    for number, part in enumerate(_parts(arrays)):
        np.savez_compressed(f"{target}.weights.{number}.npz", **part)  # type: ignore[arg-type]


def _parts(arrays: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """The arrays in their order, as many at a time as fit in a file."""
    part: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if part and sum(each.nbytes for each in part.values()) + array.nbytes > MOST_WEIGHTS:
            yield part
            part = {}
        part[name] = array
    yield part


def pack_results(folder: Path, runs: Path, out: Path) -> None:
    """Writes the results to be brought back to `out`."""
    with tarfile.open(out / "runs.tar.gz", "w:gz") as archive:
        for path in sorted(runs.rglob("*")):
            if path.is_file() and path.name != STATE:
                archive.add(path, path.relative_to(runs))
    artifacts = artifacts_in(folder)
    for artifact in artifacts:
        name = artifact.folder.name
        run = runs if len(artifacts) == 1 else runs / name
        results = run / "results.json"
        finished = results.exists() and "evaluate_seconds" in json.loads(results.read_text())
        if finished and not weight_files(out / name):
            write_weights(run, artifact, out / name)


def _run(module: str, *arguments: object, timeout: float | None = None) -> bool:
    """Runs a module of this project and reports a failure; returns whether it ended well."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    print(f"{module} ...", flush=True)
    try:
        subprocess.run(command, cwd=ROOT, check=True, timeout=timeout)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"{module}: {error}", flush=True)
        return False
    return True


def run(source: Path, out: Path, runs: Path | None, minutes: float, peer: bool) -> bool:
    """Measures, trains and packs the results; a peer that fails stops nothing.

    Args:
        source: the pack, or its folder.
        out: folder for what is brought back.
        runs: run directories; None: `runs` in the pack's folder.
        minutes: until the results are packed.
        peer: whether PyTorch is measured.

    Returns:
        Whether training ended well, or in time to continue later.
    """
    started = time.monotonic()
    folder, out = unpack(source).resolve(), out.resolve()
    runs = (runs or folder / "runs").resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    data = decoded_images(folder)
    if peer:
        measure_peer(data, runs)
    left = minutes - (time.monotonic() - started + _PACKING_SECONDS) / 60
    # k-means is timed before any run is trained.
    well = _run("jax_runner", folder, f"--data={data}", f"--workdir={runs}", f"--minutes={left}")
    pack_results(folder, runs, out)
    return well


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the process's exit status."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack", help="write what goes to the machine")
    packing.add_argument("lowered", type=Path, help="what lowering wrote")
    packing.add_argument("--images", type=Path, required=True, help="class folders, FILE.tgz")
    packing.add_argument("--out", type=Path, default=Path("pack.tar.xz"))
    running = verbs.add_parser("run", help="measure, train, pack the results")
    running.add_argument("source", type=Path, metavar="PACK", help="FILE.tar.xz, or its folder")
    running.add_argument("--out", type=Path, required=True, help="folder for what is brought back")
    running.add_argument("--runs", type=Path, help="run directories; default: PACK/runs")
    running.add_argument("--minutes", type=float, default=9.0, help="until all is packed")
    running.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True)
    options = vars(parser.parse_args(arguments))
    try:
        if options.pop("verb") == "pack":
            print(f"{options['out']}: {pack(**options) / 1e6:.1f} MB")
            return 0
        return 0 if run(**options) else 1
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
