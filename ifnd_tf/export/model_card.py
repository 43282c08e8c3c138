"""The model card of a trained encoder, written from its run directory.

The parts are those of Mitchell et al. 2019, "Model Cards for Model Reporting", arXiv 1810.03993.
"""

import textwrap
from collections.abc import Mapping

import tensorflow as tf

from ifnd_tf import __version__
from ifnd_tf.run.metric_names import describe
from ifnd_tf.run.progress import duration
from ifnd_tf.run.records import RunRecords, read_run
from ifnd_tf.run.words import DETECTORS

_CARD = """\
# {experiment}

{written}

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
_PAPER = "(Chen et al., ICLR 2022, arXiv 2106.03719)"
# They need true labels, or show only what wrong ones do.
_WITH_LABELS = ("noisy_oracle", "oracle", "random")


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
        written=textwrap.fill(
            f"An image encoder, pretrained by contrastive learning{_method(flags)}. Written by "
            f"ifnd_tf {__version__} with TensorFlow {tf.__version__}.",
            100,
        ),
        size=flags.get("image_size", ""),
        training="\n".join(f"| {name} | {value} |" for name, value in rows.items() if value),
        results="\n".join(["| measure | value |", "| --- | --- |", *lines])
        if lines
        else "Not evaluated: the images have no labels, or --mode=evaluate has not run.",
        warnings="".join(f"- {line}\n" for line in run.warnings),
    )


def _method(flags: Mapping[str, str]) -> str:
    """How the false negatives were found, as the end of a sentence."""
    detector = flags.get("detector", "")
    if detector not in DETECTORS:
        return ""
    words = "" if detector in _WITH_LABELS else " without labels"
    if detector != "none":
        words += f", with {DETECTORS[detector]}"
    return f"{words} {_PAPER}" if detector == "ifnd" else words
