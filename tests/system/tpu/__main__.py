"""Proves the TPU path without a TPU.

    make tpu-check                                     # makes the environments and runs this
    python -m tests.system.tpu --json tpu.json
    python -m tests.system.tpu --short --json tpu.json   # v5e with a small network, as in CI

Exits with 1 if a program does not compile, waits for the host or, but for --short, costs more
than promised.
"""

import json
import os
import sys
import time
from pathlib import Path

from absl import app, flags

from ifnd_tf.errors import UserError
from tests.system.tpu.check import Settings, check
from tests.system.tpu.chips import CHIPS
from tests.system.tpu.compile import EFFORTS
from tests.system.tpu.environment import ROOT, Environments
from tests.system.tpu.table import legend, table

_JSON = flags.DEFINE_string("json", "", "File for the results as JSON; empty: none.")
_FLAGFILE = flags.DEFINE_string(
    "experiment", "experiments/imagenet_tpu.flags", "Flagfile of the run to check."
)
_OVERRIDES = flags.DEFINE_multi_string(
    "set", [], "A further flag for main.py, as --set=--detector=none; may be repeated."
)
_BATCH = flags.DEFINE_integer(
    "replica_batch", 128, "Images a step on one device; imagenet_tpu.flags on 32 cores: 128."
)
_EXAMPLES = flags.DEFINE_integer("num_examples", 1281167, "N of the data set; ImageNet's.")
_KINDS = flags.DEFINE_list("kinds", list(CHIPS), "TPUs to compile for, a comma list.")
_CONFIRM = flags.DEFINE_list(
    "confirm", ["v5e-8"], "TPUs whose largest batch is compiled rather than extrapolated."
)
_DEFAULT_EFFORT = flags.DEFINE_list(
    "default_effort", ["v5e-8"],
    "TPUs whose training step is also compiled as a TPU would: at libtpu's own effort.",
)  # fmt: skip
_EFFORT = flags.DEFINE_enum(
    "effort", "O0", list(EFFORTS), "XLA's optimisation level; libtpu's own takes much longer."
)
_JOBS = flags.DEFINE_integer("jobs", 2, "Compilations at a time; 2 GB of memory each.")
_SHORT = flags.DEFINE_boolean(
    "short", False, "A small network at 32 pixels on v5e-8 only: a minute instead of ten."
)
_ENVIRONMENTS = flags.DEFINE_string(
    "environments", str(ROOT / ".venv-tpu"), "Folder of the environments and of kept results."
)

_SMALL = ("--backbone=resnet_small", "--stem=cifar", "--image_size=32")


def _settings() -> Settings:
    for flag in (_KINDS, _CONFIRM, _DEFAULT_EFFORT):
        for kind in set(flag.value) - set(CHIPS):
            raise UserError(
                f"--{flag.name}: expected some of {', '.join(CHIPS)}. Received: {kind}."
            )
    return Settings(
        flagfile=_FLAGFILE.value,
        overrides=(*_OVERRIDES.value, *(_SMALL if _SHORT.value else ())),
        replica_batch=_BATCH.value,
        num_examples=_EXAMPLES.value,
        kinds=("v5e-8",) if _SHORT.value else tuple(_KINDS.value),
        confirm=() if _SHORT.value else tuple(_CONFIRM.value),
        default_effort=() if _SHORT.value else tuple(_DEFAULT_EFFORT.value),
        effort=_EFFORT.value,
        jobs=max(1, _JOBS.value),
        promises=not _SHORT.value,
    )


def _main(arguments: list[str]) -> int:
    try:
        if len(arguments) > 1:
            raise UserError(f"expected flags only, as --name=value. Received: {arguments[1]}.")
        settings = _settings()
        environments = Environments.under(Path(_ENVIRONMENTS.value))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - start:5.0f} s] {line}", flush=True)

    report = check(settings, environments, say)
    print(f"\n{table(report)}\n\n{legend(settings.replica_batch)}")
    broken = [line for found in report.values() for line in found["problems"]]
    ended, spent = time.monotonic() - start, os.times()
    took = {
        "seconds": round(ended, 1),
        "cpu_seconds": round(
            spent.user + spent.system + spent.children_user + spent.children_system, 1
        ),
    }
    if _JSON.value:
        results = {"settings": settings._asdict(), **took, "tpus": report}
        Path(_JSON.value).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for line in broken:
        print(f"FAILED: {line}")
    found = f"{len(broken)} problems" if broken else "passed"
    print(f"TPU check: {found} in {ended:.0f} s, {took['cpu_seconds']:.0f} s of a core")
    return 1 if broken else 0


if __name__ == "__main__":
    app.run(_main)
