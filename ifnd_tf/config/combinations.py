"""Checks of combinations of settings, which a `Config` calls."""

import re
from typing import Any

from ifnd_tf.config.evaluation import PROTOCOLS
from ifnd_tf.config.model import RESNETS
from ifnd_tf.config.num_clusters import check_spelling
from ifnd_tf.config.results import EXPORTS
from ifnd_tf.config.run import STAGES
from ifnd_tf.config.treatments import check_settings
from ifnd_tf.errors import UserError, did_you_mean

# Flags that name an encoder in place of a run's own, and the stages that take it.
_OTHER_ENCODERS = {
    "saved_model": {"evaluate", "embed"}, "embeddings": {"embed"}, "init_from": {"embed"},
}  # fmt: skip


def train_first(config: Any) -> str:
    """What to do where the stages find no checkpoint."""
    stages = set(config.stages) - {"check", "report"}
    flags = [f"--{flag}" for flag, users in _OTHER_ENCODERS.items() if stages and stages <= users]
    words = " or ".join([", ".join(flags[:-1]), flags[-1]] if flags[1:] else flags)
    return f"run --mode=train first{f', or name another encoder by {words}' if words else ''}"


def _check_stages(config: Any) -> None:
    """Raises `UserError` for a list with an unknown entry, or stages that do not go together."""
    for name, given, known in (
        ("mode", config.stages, STAGES),
        ("protocols", config.protocol_names, PROTOCOLS),
        ("export_formats", config.export_names, EXPORTS),
    ):
        if not given or set(given) - set(known):
            raise UserError(
                f"--{name}: expected a comma list of {', '.join(known)}. "
                f"Received: {getattr(config, name)!r}."
                f"{''.join(did_you_mean(part, known) for part in given if part not in known)}"
            )
    for mode, reason in (
        ("watch", "in a terminal of its own"),
        ("compare", "since it trains and evaluates by itself"),
    ):
        if mode in config.stages and len(config.stages) > 1:
            raise UserError(
                f"--mode: expected {mode} alone, {reason}. Received: {config.mode!r}; try "
                f"--mode={mode} --workdir={config.run_path}."
            )


def _check_others(config: Any) -> None:
    """Raises `UserError` for stages that do not use the SavedModel or the file of embeddings."""
    for flag in ("saved_model", "embeddings"):
        stages = _OTHER_ENCODERS[flag]
        if getattr(config, flag) and set(config.stages) - {"check", "report", *stages}:
            raise UserError(
                f"--{flag}: expected --mode={' or '.join(sorted(stages))}, because nothing is "
                f"trained. Received: --mode={config.mode}."
            )
    if config.saved_model and config.embeddings:
        raise UserError(
            "--embeddings: expected no --saved_model beside it. Received: both; leave one out."
        )


def _check_data_service(config: Any) -> None:
    """Raises `UserError` for an address or a data set that a tf.data service cannot serve."""
    address = config.data_service
    if not address:
        return
    if not re.fullmatch(r"grpc://[^/\s]+:\d+", address):
        raise UserError(f"--data_service: expected grpc://HOST:PORT. Received: {address!r}.")
    if not config.dataset.startswith(("folder:", "list:")):
        raise UserError(
            "--data_service: expected --dataset=folder:PATH or list:FILE, since others are in "
            f"memory or read by Python. Received: --dataset={config.dataset}."
        )


def check_combinations(config: Any) -> None:
    """Raises `UserError` naming the first clash of two settings."""
    _check_stages(config)
    known = config.backbone in ("auto", *RESNETS)
    if not known and not config.backbone.startswith(("keras:", "hub:")):
        raise UserError(
            f"--backbone: expected one of {', '.join(RESNETS)}, keras:NAME or hub:NAME. Received: "
            f"{config.backbone!r}.{did_you_mean(config.backbone, RESNETS)}"
        )
    check_spelling(config.num_clusters)
    _ = config.shares  # raises if they do not parse
    _check_others(config)
    _check_data_service(config)
    if config.saved_model and "finetune" in config.protocol_names:
        raise UserError(
            "--saved_model: expected protocols on frozen features. Received: finetune in "
            f"--protocols={config.protocols}; leave it out."
        )
    check_settings(config.treatment, config.framework, config.detector, config.level_combination)
    if config.tuning_trials and not config.validation_share:
        raise UserError(
            "--tuning_trials: expected --validation_share, the training images to choose by. "
            "Received: --validation_share=0; try --validation_share=0.2."
        )
    if config.detector == "neighbours" and config.level_combination != "union":
        raise UserError(
            "--detector=neighbours: expected --level_combination=union, since each level holds "
            f"some of the pairs. Received: --level_combination={config.level_combination}."
        )
    if config.freeze_epochs and not config.init_from:
        raise UserError(
            "--freeze_epochs: expected --init_from=, since a frozen encoder of random weights "
            f"learns nothing. Received: --freeze_epochs={config.freeze_epochs} without."
        )
    if config.freeze_epochs > config.epochs:
        raise UserError(
            f"--freeze_epochs: expected at most --epochs={config.epochs}. Received: "
            f"{config.freeze_epochs}."
        )
    if config.acceptance_end < config.acceptance_start:
        raise UserError(
            f"--acceptance_end: expected at least --acceptance_start={config.acceptance_start}. "
            f"Received: {config.acceptance_end}."
        )
    ends = config.acceptance_end_epoch
    if ends and not config.warmup_epochs < ends <= config.epochs:
        raise UserError(
            f"--acceptance_end_epoch: expected 0, or an epoch after --warmup_epochs="
            f"{config.warmup_epochs} and up to --epochs={config.epochs}. Received: {ends}."
        )
    queue_given = config.framework == "moco" and "queue_size" not in config.undecided
    if queue_given and config.queue_size % config.batch_size:
        raise UserError(
            f"--queue_size: expected a multiple of --batch_size={config.batch_size}, so that whole "
            f"batches enter the queue. Received: {config.queue_size}; try "
            f"{max(1, round(config.queue_size / config.batch_size)) * config.batch_size}."
        )
