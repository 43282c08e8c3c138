"""Kills either of two workers at random moments, restarts both, and compares the end of the run.

The worker that is left stops by itself when it notices; one that does not is killed after a while.
"""

import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from ifnd_tf.run.checkpoints import CheckpointStore
from tests.system.faults.equality import first_difference

# 4 epochs of 11 steps, a refresh before each but the first, a checkpoint every 4 steps at least.
_SETTINGS = [
    "--backbone=resnet_tiny", "--image_size=8", "--width=4", "--projection_dim=8",
    "--batch_size=128", "--queue_size=256", "--batch_norm=sync",
    "--num_clusters=4,8", "--epochs=4", "--warmup_epochs=1", "--kmeans_iterations=5",
    "--online_knn_epochs=0", "--mode=train", "--report_examples=0", "--report_share=0",
    "--checkpoint_steps=4", "--worker_timeout_seconds=60",
]  # fmt: skip
_KILLS_A_RUN = 5
# For the other worker to notice, before it is killed as well.
_NOTICE_SECONDS = 120.0


def measure(workdir: str, *, kills: int, seed: int, keep: Callable[[dict[str, Any]], None]) -> None:
    """Kills workers until there were so many kills.

    Args:
        workdir: scratch folder.
        kills: how many.
        seed: of the moments, and of which worker.
        keep: given the results after each run: "kills", "equal" (kills of runs that ended
            bit-equal), "differences" and "silent" (workers that did not notice).
    """
    root = pathlib.Path(workdir)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    start = time.monotonic()
    codes = _ends(_start(root / "whole"))
    assert codes == [0, 0], (root / "whole0.log").read_text()
    lasts, draw = time.monotonic() - start, random.Random(seed)
    found: dict[str, Any] = {"kills": 0, "equal": 0, "differences": [], "silent": 0}
    while found["kills"] < kills:
        shutil.rmtree(root / "killed", ignore_errors=True)
        wanted, done = min(_KILLS_A_RUN, kills - found["kills"]), 0
        codes = [1, 1]
        while codes != [0, 0]:
            pair = _start(root / "killed")
            if done < wanted and _kill(pair, draw, root / "killed", lasts):
                done += 1
                found["silent"] += not _noticed(pair)
                continue
            codes = _ends(pair)
            assert codes == [0, 0], (root / "killed0.log").read_text()
        difference = first_difference(str(root / "whole"), str(root / "killed"))
        found["kills"] += done
        found["equal"] += 0 if difference else done
        found["differences"] += [difference] if difference else []
        print(f"{found['kills']} kills of a worker: {difference or 'equal'}", flush=True)
        keep(found)


def _start(path: pathlib.Path) -> list[subprocess.Popen]:
    """Both workers of a run, each with a log beside its directory."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()
    pair = []
    for index in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        with open(f"{path}{index}.log", "w") as log:
            pair.append(
                subprocess.Popen(
                    [sys.executable, "main.py", *_SETTINGS, f"--workdir={path}"],
                    env={**os.environ, "TF_CONFIG": json.dumps(task), "CUDA_VISIBLE_DEVICES": "-1"},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    return pair


def _kill(
    pair: list[subprocess.Popen], draw: random.Random, path: pathlib.Path, lasts: float
) -> bool:
    """Kills one of them at a moment; False if the run ended before.

    Most of the time goes into starting, so half of the moments are counted from the first
    checkpoint of this start on.
    """
    victim, after_start = draw.choice(pair), draw.random() < 0.5
    begin, wait = time.monotonic(), draw.uniform(0.0, lasts / 2)
    store = CheckpointStore(str(path / "checkpoints"))
    before = store.steps()
    while any(process.poll() is None for process in pair):
        if not after_start and store.steps() != before:
            begin, wait, after_start = time.monotonic(), draw.uniform(0.0, lasts / 10), True
        if after_start and time.monotonic() - begin >= wait:
            victim.kill()
            return True
        time.sleep(0.01)
    return False


def _noticed(pair: list[subprocess.Popen]) -> bool:
    """Waits for both to end; whether they did by themselves."""
    end = time.monotonic() + _NOTICE_SECONDS
    while any(process.poll() is None for process in pair):
        if time.monotonic() > end:
            for process in pair:
                process.kill()
                process.wait()
            return False
        time.sleep(0.1)
    return True


def _ends(pair: list[subprocess.Popen]) -> list[int]:
    return [process.wait() for process in pair]
