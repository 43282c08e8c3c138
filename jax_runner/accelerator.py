"""One sitting at a machine with an accelerator: measures, trains, and packs what came of it.

    python -m jax_runner.accelerator PACK --out=DIR --minutes=9

PACK is a folder that holds the images (FILE.tgz of class folders) and what
`lowering` wrote for the run, the comparison and k-means. The same command goes on where
the last one stopped. Needs JAX, NumPy and Pillow; PyTorch for the peer's speed.
DIR gets `runs.tar.gz` (metrics, detections, results, flags; no state) and, for each finished run,
`NAME.weights.npz`: the query and key networks in float16.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np

from jax_runner.run_folder import STATE

ROOT = Path(__file__).resolve().parents[1]
# Of the sitting, what is measured before training; and what packing takes at its end.
_PEER_SECONDS, _PACKING_SECONDS = 120, 15


def images(pack: Path) -> Path:
    """The images as FILE.npz, decoded once."""
    archive = next(pack.glob("*.tgz"))
    decoded = archive.with_suffix(".npz")
    if not decoded.exists():
        _run("jax_runner.pixels", archive, decoded)
    return decoded


def measure_peer(data: Path, runs: Path) -> None:
    """PyTorch's images a second with the same recipe, once for each directory."""
    path = runs / "peer.json"
    if path.exists():
        return
    runs.mkdir(parents=True, exist_ok=True)
    options = (f"--data={data}", "--epochs=4", f"--json={path}")
    _run("benchmarks.peers.moco_torch", *options, timeout=_PEER_SECONDS)


def write_weights(run: Path, manifest: dict, target: Path) -> None:
    """The networks of a state in float16, by the variables' numbers in the manifest."""
    with np.load(run / STATE) as state:
        kept = {
            str(number): state[str(number)].astype(np.float16)
            for number, entry in enumerate(manifest["state"])
            if entry["dtype"] == "float32"
            and not entry["name"].startswith(("moco/", "momentum_sgd/", "kept_keys"))
        }
    np.savez_compressed(target, **kept)


def pack_up(pack: Path, runs: Path, out: Path) -> None:
    """Writes all that is to be brought back to `out`."""
    with tarfile.open(out / "runs.tar.gz", "w:gz") as archive:
        for path in sorted(runs.rglob("*")):
            if path.is_file() and path.name != STATE:
                archive.add(path, path.relative_to(runs))
    for results in sorted(runs.glob("*/results.json")):
        name = results.parent.name
        manifest = json.loads((pack / name / "manifest.json").read_text())
        if "knn_top1" in json.loads(results.read_text()):
            write_weights(results.parent, manifest, out / f"{name}.weights.npz")


def _run(module: str, *arguments: object, timeout: float | None = None) -> None:
    """Runs a module of this project; says so if it fails or takes too long, and goes on."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    try:
        subprocess.run(command, cwd=ROOT, check=True, timeout=timeout)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"{module}: {error}", flush=True)


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the process's exit status."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pack", type=Path, help="images and lowered runs")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is brought back")
    parser.add_argument("--runs", type=Path, help="run directories; default: PACK/runs")
    parser.add_argument("--minutes", type=float, default=9.0, help="until all is packed up")
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args(arguments)
    pack, out = options.pack.resolve(), options.out.resolve()
    runs = (options.runs or pack / "runs").resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pack / "compiled"))
    data = images(pack)
    if options.peer:
        measure_peer(data, runs)
    left = options.minutes - (time.monotonic() - started + _PACKING_SECONDS) / 60
    _run("jax_runner", pack, f"--data={data}", f"--workdir={runs}", f"--minutes={left}")
    pack_up(pack, runs, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
