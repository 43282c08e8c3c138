"""The report's sections of numbers: results, training, health, cost and settings."""

from collections.abc import Collection, Sequence

from ifnd_tf.report import published
from ifnd_tf.report.charts import Series, line_chart
from ifnd_tf.report.html import Section, Table
from ifnd_tf.run.metric_names import describe
from ifnd_tf.run.records import RunRecords
from ifnd_tf.run.words import counted

_UNREADABLE_SHOWN = 20
_BASELINES = {"untrained_": "untrained", "raw_pixel_": "raw pixels"}


def result_text(run: RunRecords, name: str) -> str:
    """A value of results.json for readers, with its standard deviation where there is one."""
    value, deviation = run.result(name), run.result(f"{name}_std")
    if value is None:
        return "-"
    metric = describe(name)
    shown = metric.show(value)
    return shown if deviation is None else f"{shown} ± {metric.show(deviation)}"


def results(run: RunRecords) -> Section:
    """The encoder beside its baselines, then all other results."""
    compared = [n for n in sorted(run.results) if any(p + n in run.results for p in _BASELINES)]
    compared = [name for name in compared if not name.endswith("_std")]
    floors = {p: w for p, w in _BASELINES.items() if any(p + n in run.results for n in compared)}
    beside = [
        [describe(name).text, *(result_text(run, prefix + name) for prefix in ("", *floors))]
        for name in compared
    ]
    header = ["", "encoder" if run.given_encoder else "trained", *floors.values()]
    encoder = ("knn", "linear", "cluster", "transfer", "finetune", "label")
    tables = [
        published.beside(run),
        Table(beside, header, "Baselines", numbers=range(1, len(header))),
        numbers(run, "Encoder", starts=encoder, without=compared),
        numbers(run, "Embedding, see embeddings/index.html", starts=("embedded_",)),
    ]
    return Section("Results", "Results", tables=tables)


def training(run: RunRecords) -> Section:
    """The loss and the accuracy, over the acceptance rate."""
    rate = Series("acceptance rate", run.values("detection_acceptance_rate"))
    knn = [
        Series("kNN, on a sample of the training images", run.values("online_knn_top1")),
        _level(run, "untrained encoder", "untrained_knn_top1"),
        _level(run, "raw pixels", "raw_pixel_knn_top1"),
    ]
    loss = [
        Series("loss", run.values("loss")),
        _level(run, "loss at chance, ln(1 + negatives)", "random_loss"),
    ]
    return Section(
        "Training",
        "Training",
        charts=[
            line_chart("Contrastive loss", loss, beneath=rate),
            line_chart("kNN accuracy while training", knn, percent=True, beneath=rate),
            line_chart("Learning rate", [Series("learning rate", run.values("learning_rate"))]),
        ],
    )


def _level(run: RunRecords, text: str, name: str) -> Series:
    """A horizontal line at one of the results, over all epochs."""
    value = run.result(name)
    epochs = [record["epoch"] for record in run.metrics]
    ends = sorted({min(epochs), max(epochs)}) if epochs and value is not None else []
    return Series(text, [(epoch, value or 0.0) for epoch in ends], dashed=True)


def health(run: RunRecords) -> Section:
    """Signs of collapse, while training and at the end."""
    spread = [
        Series("standard deviation (0: collapsed)", run.values("embedding_std")),
        Series("cosine of two views", run.values("positive_similarity")),
    ]
    charts = [
        (describe(name).text, run.values(name))
        for name in ("health_effective_rank", "health_uniformity")
    ]
    return Section(
        "Health",
        "Health of the embedding",
        charts=[
            line_chart("Embeddings while training", spread),
            *(line_chart(title, [Series(title, values)]) for title, values in charts),
        ],
        tables=[numbers(run, "Of the trained encoder", starts=("health_",))],
    )


def cost(run: RunRecords) -> Section:
    """Speed, and the time of each phase."""
    phases = sorted({name for r in run.metrics for name in r if name.startswith("seconds_")})
    seconds = [
        Series("whole epoch", run.values("epoch_seconds"), dashed=True),
        *(Series(name.removeprefix("seconds_"), run.values(name)) for name in phases),
    ]
    speed = [Series("training", run.values("images_per_second"))]
    return Section(
        "Cost",
        "Cost",
        charts=[line_chart("Images per second", speed), line_chart("Seconds per epoch", seconds)],
        tables=[numbers(run, "Totals", ends=("_seconds", "_per_second", "_bytes"))],
    )


def numbers(
    run: RunRecords,
    caption: str,
    starts: tuple[str, ...] = ("",),
    ends: tuple[str, ...] = ("",),
    without: Collection[str] = (),
) -> Table:
    """The numbers of results.json with one of these starts and ends in their names.

    Deviations stand beside their means, and "-" where there was nothing to measure.
    """
    rows = [
        [describe(name).text, result_text(run, name)]
        for name in sorted(set(run.results) - set(without))
        if name.startswith(starts) and name.endswith(ends)
        if run.results[name] is None or run.result(name) is not None
        if not (name.endswith("_std") and name.removesuffix("_std") in run.results)
    ]
    return Table(rows, caption=caption, numbers=[1])


def data_of(run: RunRecords) -> Section:
    """Notes on a run's data, and the images that were skipped."""
    found = run.results.get("data_notes")
    notes = [n for n in found if isinstance(n, dict)] if isinstance(found, list) else []
    return data([str(n.get("text", "")) for n in notes], run.unreadable)


def data(notes: Sequence[str], unreadable: Sequence[Sequence]) -> Section:
    """Notes on the data, and the images that were skipped.

    Args:
        notes: sentences.
        unreadable: index, name and reason of each image that was skipped.
    """
    caption = f"{counted(len(unreadable), 'unreadable image')}, skipped"
    if len(unreadable) > _UNREADABLE_SHOWN:
        caption += f"; the first {_UNREADABLE_SHOWN}"
    rows = [[*map(str, row)] for row in unreadable[:_UNREADABLE_SHOWN]]
    tables = [
        Table([[note] for note in notes], caption="Notes"),
        Table(rows, ["index", "image", "reason"], caption),
    ]
    return Section("Data", "Data", tables=tables)


def settings(run: RunRecords) -> Section:
    """All flags, and versions."""
    rows = [[f"--{name}", value] for name, value in sorted(run.flags.items())]
    caption = f"{len(rows)} flags; --flagfile=config.flags repeats this run"
    return Section(
        "Settings",
        "Settings and versions",
        tables=[Table(rows, caption=caption, code=[0, 1], folded=True)],
    )
