"""The report's sections of numbers: results, training, health, cost and settings."""

from collections.abc import Sequence

import numpy as np

from ifnd_tf.report.charts import Series, line_chart, number_text
from ifnd_tf.report.html import Chart, Fold, Section, Table
from ifnd_tf.run.metric_names import describe
from ifnd_tf.run.records import RunFiles

_UNREADABLE_SHOWN = 20
_ROWS_SHOWN = 40
_BESIDE = ("untrained_", "raw_pixel_")


def chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str = "epoch",
    percent: bool = False,
    beneath: Series | None = None,
) -> list[Chart]:
    """`line_chart` with its numbers as a table; empty when there is nothing to draw."""
    svg = line_chart(title, series, x_label=x_label, percent=percent, beneath=beneath)
    if not svg:
        return []
    drawn = [line for line in series if line.points]
    columns = [dict(line.points) for line in drawn]
    places = sorted({x for column in columns for x in column})
    if len(places) > _ROWS_SHOWN:
        kept = np.linspace(0, len(places) - 1, _ROWS_SHOWN).round().astype(int)
        places = [places[i] for i in kept]
    rows = [
        [number_text(x), *(number_text(c[x], percent) if x in c else "" for c in columns)]
        for x in places
    ]
    header = [x_label, *(line.name for line in drawn)]
    return [Chart(svg, Table(rows, header, numbers=range(len(header))))]


def result_text(run: RunFiles, name: str) -> str:
    """A value of results.json as a reader wants it, with its deviation where there is one."""
    value = run.result(name)
    if value is None:
        return str(run.results.get(name, ""))
    metric = describe(name)
    text = number_text(value, metric.percent) + metric.unit
    deviation = run.result(f"{name}_std")
    return text if deviation is None else f"{text} ± {number_text(deviation, metric.percent)}"


def results(run: RunFiles) -> Section:
    """The encoder beside the untrained one and raw pixels, then all other results."""
    beside, of_encoder, of_detection = [], [], []
    for name, value in sorted(run.results.items()):
        others = [f"{prefix}{name}" for prefix in _BESIDE]
        if name.startswith((*_BESIDE, "health_")) or isinstance(value, dict | list):
            continue
        row = [describe(name).text, result_text(run, name)]
        if any(other in run.results for other in others):
            beside.append([*row, *(result_text(run, other) for other in others)])
        elif name.endswith("_std"):
            continue
        elif name.startswith(("knn", "linear", "cluster", "transfer", "finetune", "label")):
            of_encoder.append(row)
        elif name.startswith(("detection_", "masked_")):
            of_detection.append(row)
    header = ["", "trained", "untrained", "raw pixels"]
    tables = [
        Table(beside, header, "Against what knows nothing", numbers=[1, 2, 3]),
        Table(of_detection, caption="Detection, last refresh", numbers=[1]),
        Table(of_encoder, caption="The encoder", numbers=[1]),
    ]
    return Section("results", "Results", "Results", tables=[t for t in tables if t.rows])


def training(run: RunFiles) -> Section:
    """The loss and the accuracy, over the acceptance rate."""
    rate = Series("acceptance rate", run.values("detection_acceptance_rate"))
    knn = [
        Series("kNN, a sample of the memory", run.values("online_knn_top1")),
        _level(run, "untrained encoder", "untrained_knn_top1"),
        _level(run, "raw pixels", "raw_pixel_knn_top1"),
    ]
    loss = [
        Series("loss", run.values("loss")),
        _level(run, "random level ln(1 + negatives)", "random_loss"),
    ]
    return Section(
        "training",
        "Training",
        "Training",
        notes=["The loss also falls because negatives are left out; accuracy does not lie."]
        if rate.points
        else [],
        charts=[
            *chart("Contrastive loss", loss, beneath=rate),
            *chart("kNN accuracy while training", knn, percent=True, beneath=rate),
            *chart("Learning rate", [Series("learning rate", run.values("learning_rate"))]),
        ],
    )


def _level(run: RunFiles, text: str, name: str) -> Series:
    """A horizontal line at one of the results, over all epochs."""
    value = run.result(name)
    epochs = [record["epoch"] for record in run.metrics]
    ends = sorted({min(epochs), max(epochs)}) if epochs and value is not None else []
    return Series(text, [(epoch, value or 0.0) for epoch in ends], dashed=True)


def health(run: RunFiles) -> Section:
    """Whether embeddings still tell images apart."""
    known = {
        name: value
        for name, value in sorted(run.results.items())
        if name.startswith("health_") and run.result(name) is not None
    }
    rows = [[describe(name).text, result_text(run, name)] for name, value in known.items()]
    while_training = sorted(
        {name for record in run.metrics for name in record if name.startswith("health_")}
    )
    spread = [
        Series("spread (0: collapsed)", run.values("embedding_std")),
        Series("cosine of two views", run.values("positive_similarity")),
    ]
    return Section(
        "health",
        "Health",
        "Health of the embedding",
        notes=[
            "A spread that falls to 0, or an effective rank near 1, means that the encoder maps "
            "all images to one point: it has collapsed. The cosine of two views should rise."
        ],
        charts=[
            *chart("Embeddings while training", spread),
            *(
                drawn
                for name in while_training
                for drawn in chart(describe(name).text, [Series(name, run.values(name))])
            ),
        ],
        tables=[Table(rows, caption="Of the trained encoder", numbers=[1])] if rows else [],
    )


def cost(run: RunFiles) -> Section:
    """Speed, and where the time went."""
    phases = sorted({name for r in run.metrics for name in r if name.startswith("seconds_")})
    seconds = [
        Series("whole epoch", run.values("epoch_seconds"), dashed=True),
        *(Series(describe(name).text.removesuffix(" time"), run.values(name)) for name in phases),
    ]
    known = [
        [describe(name).text, result_text(run, name)]
        for name, value in sorted(run.results.items())
        if name.endswith(("_seconds", "_per_second", "_bytes")) and run.result(name) is not None
    ]
    return Section(
        "cost",
        "Cost",
        "Cost",
        charts=[
            *chart("Images a second", [Series("training", run.values("images_per_second"))]),
            *chart("Seconds an epoch", seconds),
        ],
        tables=[Table(known, caption="In all", numbers=[1])] if known else [],
    )


def unreadable(run: RunFiles) -> Section:
    """Images that were left out of training."""
    caption = f"{len(run.unreadable):,} left out"
    if len(run.unreadable) > _UNREADABLE_SHOWN:
        caption += f"; the first {_UNREADABLE_SHOWN}, all in unreadable.tsv"
    rows = run.unreadable[:_UNREADABLE_SHOWN]
    tables = [Table(rows, ["index", "image", "reason"], caption)] if rows else []
    return Section("unreadable", "Unreadable", "Unreadable images", tables=tables)


def settings(run: RunFiles) -> Section:
    """Exact flags and versions."""
    rows = [[f"--{name}", value] for name, value in sorted(run.flags.items())]
    title = f"{len(rows)} flags; config.flags runs this again"
    return Section(
        "settings",
        "Settings",
        "Settings and versions",
        notes=[f"Run with {run.versions}."] if run.versions else [],
        folds=[Fold(title, Table(rows, code=[0, 1]))] if rows else [],
    )
