"""The model card of a trained encoder, written from its run directory.

The parts are those of Mitchell et al. 2019, "Model Cards for Model Reporting", arXiv 1810.03993.
"""

import tensorflow as tf

from ifnd_tf import __version__
from ifnd_tf.run.metric_names import describe
from ifnd_tf.run.progress import duration
from ifnd_tf.run.records import RunRecords, read_run

_CARD = """\
# {experiment}

An image encoder, pretrained by contrastive learning{method}. Written by ifnd_tf {version} with
TensorFlow {tensorflow}.

## Use

Features for search, clustering and classification with few labels, or a start for fine-tuning, on
images like those it was trained on. It names no classes by itself.

- Input: RGB images, {size} pixels a side after resizing.
- Output: `features` for classifiers, `embedding` of unit length for similarity.

```python
import tensorflow as tf

encoder = tf.saved_model.load("saved_model")
features = encoder.signatures["serving_default"](images=images)["features"]  # uint8 [b, H, W, 3]
```

## Training

| | |
| --- | --- |
{training}

Every setting is in `config.flags`; `python main.py --flagfile=config.flags --workdir=NEW` trains it
again.

## Results

{results}

## Limits

- It reflects its training images and their biases, which were not examined.
{warnings}"""
# How each detector found false negatives.
_METHODS = {
    "ifnd": " without labels, with incremental false negative\ndetection (Chen et al., ICLR 2022, "
    "arXiv 2106.03719)",
    "neighbours": " without labels, with false negatives from mutual nearest neighbours",
    "none": " without labels",
    "noisy_oracle": ", with false negatives from true labels with noise",
    "oracle": ", with false negatives from true labels",
    "random": ", with permuted labels as false negatives: a control experiment",
}


def write(path: str) -> str:
    """Writes model_card.md in a run directory, local or gs://, and returns its path."""
    card = f"{path.rstrip('/')}/model_card.md"
    with tf.io.gfile.GFile(card, "w") as file:
        file.write(text(read_run(path)))
    return card


def text(run: RunRecords) -> str:
    """The card of a run, as Markdown."""
    flags = run.flags
    rows = {
        "data": flags.get("dataset", ""),
        "unreadable images, skipped": str(len(run.unreadable)),
        "framework": f"{flags.get('framework', '')}, {flags.get('detector', '')} detector, "
        f"{flags.get('treatment', '')}",
        "network": flags.get("backbone", ""),
        "start": flags.get("init_from", ""),
        "epochs": f"{int(run.metrics[-1]['epoch'])} of {flags.get('epochs', '')}"
        if run.metrics
        else "",
        "time": duration(seconds) if (seconds := run.result("train_seconds")) else "",
    }
    found = [
        (describe(name), value)
        for name in sorted(run.results)
        if name.endswith(("_top1", "_nmi", "_precision", "_recall"))
        and (value := run.result(name)) is not None
    ]
    lines = [f"| {metric.text} | {metric.show(value)} |" for metric, value in found]
    return _CARD.format(
        experiment=flags.get("experiment") or run.path.rstrip("/").rsplit("/", 1)[-1],
        method=_METHODS.get(flags.get("detector", ""), ""),
        version=__version__,
        tensorflow=tf.__version__,
        size=flags.get("image_size", ""),
        training="\n".join(f"| {name} | {value} |" for name, value in rows.items() if value),
        results="\n".join(["| measure | value |", "| --- | --- |", *lines])
        if lines
        else "Not evaluated: the images have no labels, or --mode=evaluate has not run.",
        warnings="".join(f"- {line}\n" for line in run.warnings),
    )
