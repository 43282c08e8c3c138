"""Settings of the data."""

import dataclasses

from ifnd_tf.config.setting import changeable, setting, share

# Grey levels by name.
BACKGROUNDS = {"white": 255, "grey": 128, "black": 0}


@dataclasses.dataclass(frozen=True)
class Data:
    """Data: where images come from."""

    dataset: str = setting(
        "digits",
        "digits | folder:PATH | list:FILE | tfds:NAME[/CONFIG] | parquet:GLOB. The default needs "
        "no download.",
    )
    data_dir: str = changeable("", "Folder of prepared tfds data, on disk or gs://.")
    train_split: str = setting("train", "Split to train on; for tfds any slice, e.g. train[:90%].")
    eval_split: str = setting(
        "", "Split to evaluate on. Empty: test, validation or val, else a held-out share of train."
    )
    holdout_share: float | None = setting(
        None,
        "Share of the images held out if there is no evaluation split. Empty: a fifth of labelled "
        "images, and none of others.",
        above=0,
        below=1,
    )
    validation_share: float = setting(
        0.0,
        "Share of the training images to evaluate on instead of the evaluation split, to choose "
        "settings without looking at the latter. 0: none.",
        low=0,
        below=1,
    )
    data_root: str = changeable(
        "", "Folder that all files of list:FILE must lie in, links followed. Empty: any."
    )
    subset_classes: int = setting(
        0,
        "Keep only this many classes, the first ones, in both splits: the gap between detectors "
        "none and oracle grows with the number of classes. 0: all.",
        low=0,
    )
    subset_images: int = setting(
        0,
        "Train on about this many images, equally many of every class, the same ones for every "
        "seed. 0: all.",
        low=0,
    )
    background: str = setting(
        "white", "What transparent pixels are composited on.", tuple(BACKGROUNDS)
    )
    sixteen_bits: str = setting(
        "range",
        "How images of more than 8 bits become 8. range: scaled by their own least and greatest "
        "level; high_byte: divided by 256.",
        ("range", "high_byte"),
    )
    max_megapixels: float = changeable(
        256.0, "Megapixels above which an image counts as unreadable.", above=0
    )
    image_size: int = setting(
        16,
        "Side of the training views, in pixels. Digits have 8. auto: about the images' short side, "
        "at most 224, and without a GPU or TPU at most 64.",
        auto=True,
        low=8,
    )
    decode_margin: float = setting(
        2.5,
        "Large images are decoded at 1/2 to 1/16 of their size, as long as this times "
        "--image_size is left of their short side. 0: always in full.",
        low=0,
    )
    cache_megabytes: int = changeable(
        2048,
        "Memory for decoded images, as many as fit in it and in half of what is free; 0: none.",
        low=0,
    )
    scan_images: bool = setting(
        True,
        "Decode every image once before training, so that unreadable ones are skipped from the "
        "start; workers share the work. Off, for large data: they are skipped while training.",
    )
    max_corrupt_share: float = share(
        0.01, "Largest share of unreadable images; above it the run stops."
    )
    infeed_dtype: str = setting(
        "uint8",
        "What the host sends to the device. uint8: crops, a quarter of the bytes; the device adds "
        "jitter, blur and normalisation. float32 or bfloat16: finished views.",
        ("uint8", "float32", "bfloat16"),
    )
    data_service: str = changeable(
        "",
        "grpc://HOST:PORT of a tf.data service that makes the training views of image files on "
        "other machines; see docs/devices.md. Empty: this machine makes them.",
    )
