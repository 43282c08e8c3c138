"""Settings of the weights that a run starts from."""

import dataclasses

from ifnd_tf.config.setting import setting


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """Initial weights."""

    init_from: str = setting(
        "",
        "Weights to start from instead of random ones: a run directory (its newest checkpoint), a "
        ".keras, .weights.h5 or .h5 file, a SavedModel that --mode=export wrote, imagenet for "
        "--backbone=keras:NAME (from Keras' cache, else downloaded), or a KerasHub preset's folder "
        "for --backbone=hub:. The projector is taken where it fits. auto: imagenet if --backbone "
        "is auto or keras:EfficientNetB0 and Keras' cache has its weights. docs/pretrained.md "
        "explains all.",
        auto=True,
    )
    freeze_epochs: int = setting(
        0,
        "First epochs in which the encoder's weights stay as --init_from gave them, while the "
        "projector, which starts fresh, learns to use them. Batch norm's running statistics "
        "follow the images.",
        low=0,
    )
    encoder_learning_rate_scale: float = setting(
        1.0,
        "Factor of the learning rate for the encoder; below 1, a pretrained encoder changes more "
        "slowly than its projector.",
        above=0,
    )
