"""Settings of the views."""

import dataclasses

from ifnd_tf.config.setting import setting, share


@dataclasses.dataclass(frozen=True)
class Views:
    """Views: the recipe and its overrides; None is the recipe's value."""

    augmentation: str = setting(
        "digits",
        "Recipe whose values the flags below override. digits: crops and small changes of "
        "contrast, because flipping or strongly cropping a digit changes what it shows.",
        ("moco_v2", "simclr", "digits"),
    )
    crop_min_area: float | None = setting(
        None, "Smallest crop as a share of the image's area.", above=0, high=1
    )
    flip_probability: float | None = share(None, "Probability of a horizontal flip.")
    jitter_probability: float | None = share(None, "Probability of colour jitter.")
    jitter_brightness: float | None = share(None, "Range of the brightness factor: 1 +- this.")
    jitter_contrast: float | None = share(None, "Range of the contrast factor: 1 +- this.")
    jitter_saturation: float | None = share(None, "Range of the saturation factor: 1 +- this.")
    jitter_hue: float | None = setting(
        None, "Range of the hue's turn: +- this share of the circle.", low=0, high=0.5
    )
    gray_probability: float | None = share(None, "Probability of dropping colour.")
    blur_probability: float | None = share(None, "Probability of Gaussian blur.")
    blur_sigma_min: float | None = setting(None, "Smallest blur, in pixels at 224.", above=0)
    blur_sigma_max: float | None = setting(
        None, "Largest blur, in pixels at 224; >= blur_sigma_min.", above=0
    )
