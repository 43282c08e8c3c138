"""The report of one run: what came out, how it got there, and with which settings."""

import math

import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.report import page
from ifnd_tf.report.chart import Series, line_chart, number_text
from ifnd_tf.report.metrics import describe
from ifnd_tf.report.run_files import RunFiles, read_run

_HEADLINES = (
    "knn_top1",
    "linear_top1",
    "detection_precision",
    "detection_recall",
    "train_images_per_second",
    "wall_seconds",
)
_UNREADABLE_SHOWN = 20


def write(path: str) -> str:
    """Writes report.html into a run directory, from what the directory holds alone.

    Args:
        path: the run directory, local or gs://.

    Returns:
        The page's path. It refers to no other file and needs no network.

    Raises:
        UserError: if the directory holds no run, or cannot be written.
    """
    target = f"{path.rstrip('/')}/report.html"
    text = render(read_run(path))
    try:
        with tf.io.gfile.GFile(target, "w") as file:
            file.write(text)
    except tf.errors.OpError as error:
        raise UserError(
            f"Expected a run directory that can be written. Received: {path!r} ({error})."
        ) from error
    return target


def render(run: RunFiles) -> str:
    """The page as text."""
    name = run.flags.get("experiment") or run.path.rstrip("/").rsplit("/", 1)[-1]
    return page.page(
        f"{name}: {_method(run)}",
        [
            f'<p class="lead">{_lead(run)}</p>',
            *(page.warning(text) for text in _warnings(run)),
            _headlines(run),
            page.section("Results", _results(run)),
            page.section("Training", page.charts(_training(run))),
            page.section(
                "Detection of false negatives",
                page.charts(_detection(run)),
                note="A pair of images is detected when both carry the same accepted pseudo-label. "
                "Precision: detected pairs that share a true class. Recall: pairs of one true "
                "class that are detected. True labels serve these curves alone, except with the "
                "oracle.",
            ),
            page.section("Where the time goes", page.charts(_time(run))),
            page.section("Unreadable images", _unreadable(run)),
            page.section("Settings", _settings(run)),
        ],
    )


def _method(run: RunFiles) -> str:
    framework = {"moco": "MoCo v2", "simclr": "SimCLR"}.get(run.flags.get("framework", ""), "")
    detector = {
        "ifnd": "incremental false negative detection",
        "none": "no false negative detection",
        "oracle": "false negatives from true labels",
        "random": "permuted labels (control)",
    }.get(run.flags.get("detector", ""), run.flags.get("detector", ""))
    return " with ".join(part for part in (framework, detector) if part) or "training run"


def _lead(run: RunFiles) -> str:
    shown = ("dataset", "backbone", "epochs", "batch_size", "num_clusters", "loss", "seed")
    parts = [f"{name.replace('_', ' ')} {run.flags[name]}" for name in shown if name in run.flags]
    done = run.metrics[-1]["epoch"] if run.metrics else 0
    if run.metrics and str(done) != run.flags.get("epochs", str(done)):
        parts.append(f"{done} epochs done so far")
    # Escaped here: the only fragment that is not built by `page`.
    return " &middot; ".join(part.replace("&", "&amp;").replace("<", "&lt;") for part in parts)


def _warnings(run: RunFiles) -> list[str]:
    found = run.results.get("health_warnings", [])
    texts = [found] if isinstance(found, str) else [str(text) for text in found]
    if any(not math.isfinite(loss) for _, loss in run.values("loss")):
        texts.append("The loss was not finite in at least one epoch.")
    return [text for text in texts if text]


def _text(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    metric = describe(name)
    return number_text(float(value), metric.percent) + metric.unit


def _headlines(run: RunFiles) -> str:
    return page.tiles(
        [
            (
                number_text(run.result(name) or 0.0, describe(name).percent),
                describe(name).text + (describe(name).unit and f",{describe(name).unit}"),
            )
            for name in _HEADLINES
            if run.result(name) is not None
        ]
    )


def _results(run: RunFiles) -> str:
    groups: dict[str, list[list[str]]] = {
        "The trained encoder": [],
        "For comparison": [],
        "Detection, last refresh": [],
        "The run": [],
    }
    for name, value in sorted(run.results.items()):
        if name == "health_warnings":
            continue
        if name.startswith(("untrained_", "raw_pixel_")):
            group = "For comparison"
        elif name.startswith(("detection_", "masked_")):
            group = "Detection, last refresh"
        elif name.startswith(
            ("knn", "linear", "cluster", "transfer", "finetune", "health_", "label")
        ):
            group = "The trained encoder"
        else:
            group = "The run"
        groups[group].append([describe(name).text, _text(name, value)])
    tables = [
        page.table(rows, caption=title, numbers=[1]) for title, rows in groups.items() if rows
    ]
    return f'<div class="tables">{"".join(f"<div>{table}</div>" for table in tables)}</div>'


def _level(run: RunFiles, text: str, name: str) -> Series:
    """A horizontal line at one of the results, over all epochs."""
    value = run.result(name)
    epochs = [record["epoch"] for record in run.metrics]
    ends = [min(epochs), max(epochs)] if epochs and value is not None else []
    return Series(text, [(epoch, value or 0.0) for epoch in ends], dashed=True)


def _training(run: RunFiles) -> list[str]:
    knn = [
        Series("kNN, a sample of the memory", run.values("online_knn_top1")),
        _level(run, "untrained encoder", "untrained_knn_top1"),
        _level(run, "raw pixels", "raw_pixel_knn_top1"),
    ]
    return [
        line_chart(
            "Contrastive loss",
            [
                Series("loss", run.values("loss")),
                _level(run, "random level ln(1 + negatives)", "random_loss"),
            ],
        ),
        line_chart("kNN accuracy while training", knn, percent=True),
        line_chart(
            "Embeddings",
            [
                Series("spread (0: collapsed)", run.values("embedding_std")),
                Series("cosine of two views", run.values("positive_similarity")),
            ],
        ),
        line_chart("Learning rate", [Series("learning rate", run.values("learning_rate"))]),
    ]


def _detection(run: RunFiles) -> list[str]:
    if not run.detection:
        return []
    counts = [len(r["level_precision"]) for r in run.detection if "level_precision" in r]
    clusters: list[int] = next(
        (r["clusters"] for r in reversed(run.detection) if "clusters" in r), []
    )
    levels = [
        (level, f"K = {clusters[level]}" if level < len(clusters) else f"level {level + 1}")
        for level in range(max(counts, default=0))
    ]

    def quality(name: str) -> str:
        series = [Series(text, run.refreshes(f"level_{name}", level)) for level, text in levels]
        series.append(Series("union of levels", run.refreshes(f"union_{name}"), dashed=True))
        return line_chart(f"{name.capitalize()} of detected pairs", series, percent=True)

    return [
        quality("precision"),
        quality("recall"),
        line_chart(
            "Acceptance and masking",
            [
                Series("acceptance rate", run.refreshes("acceptance_rate"), dashed=True),
                Series("labels accepted", run.refreshes("accepted_share")),
                Series("negatives masked", run.values("masked_share")),
            ],
            percent=True,
        ),
        line_chart(
            "Change since the last refresh",
            [Series("detected pairs changed", run.refreshes("label_churn"))],
            percent=True,
        ),
        line_chart(
            "Accepted labels against true classes",
            [Series("NMI", run.refreshes("nmi")), Series("purity", run.refreshes("purity"))],
        ),
        line_chart(
            "Largest cluster, images",
            [Series(text, run.refreshes("largest_cluster", level)) for level, text in levels],
        ),
    ]


def _time(run: RunFiles) -> list[str]:
    phases = sorted({name for r in run.metrics for name in r if name.startswith("seconds_")})
    return [
        line_chart("Images a second", [Series("training", run.values("images_per_second"))]),
        line_chart(
            "Seconds an epoch",
            [
                Series("whole epoch", run.values("epoch_seconds"), dashed=True),
                *(Series(name.removeprefix("seconds_"), run.values(name)) for name in phases),
            ],
        ),
    ]


def _unreadable(run: RunFiles) -> str:
    count = len(run.unreadable)
    caption = f"{count} left out of training"
    if count > _UNREADABLE_SHOWN:
        caption += f"; the first {_UNREADABLE_SHOWN}, all in unreadable.tsv"
    return page.table(
        run.unreadable[:_UNREADABLE_SHOWN], header=["index", "image", "reason"], caption=caption
    )


def _settings(run: RunFiles) -> str:
    rows = [[f"--{name}", value] for name, value in sorted(run.flags.items())]
    return page.details(
        f"{len(rows)} flags; config.flags runs this again", page.table(rows, code=[0, 1])
    )
