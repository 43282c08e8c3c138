"""Probabilities and strengths of the random views, by name."""

from typing import NamedTuple

from ifnd_tf.errors import UserError


class Augmentation(NamedTuple):
    """Probabilities and strengths of a recipe.

    Attributes:
        crop_min_area: smallest crop as a share of the image's area, in (0, 1].
        flip_probability: of a horizontal flip.
        jitter_probability: of the four colour changes, which happen together or not at all.
        jitter_brightness: the factor b is uniform in 1 +- this (never below 0).
        jitter_contrast: likewise for the factor f.
        jitter_saturation: likewise for the factor s.
        jitter_hue: the turn is uniform in +- this share of the full circle, in [0, 0.5].
        gray_probability: of dropping colour.
        blur_probability: of Gaussian blur.
        blur_sigma_min: smallest standard deviation of the blur, in pixels of a 224-pixel view.
        blur_sigma_max: largest one.
    """

    crop_min_area: float
    flip_probability: float
    jitter_probability: float
    jitter_brightness: float
    jitter_contrast: float
    jitter_saturation: float
    jitter_hue: float
    gray_probability: float
    blur_probability: float
    blur_sigma_min: float
    blur_sigma_max: float


# moco_v2: Chen et al. 2020, arXiv 2003.04297. simclr: Chen et al. 2020, arXiv 2002.05709,
# appendix A, jitter strength 1. digits: ours; a flipped or strongly cropped digit is another.
RECIPES = {
    "moco_v2": Augmentation(0.2, 0.5, 0.8, 0.4, 0.4, 0.4, 0.1, 0.2, 0.5, 0.1, 2.0),
    "simclr": Augmentation(0.08, 0.5, 0.8, 0.8, 0.8, 0.8, 0.2, 0.2, 0.5, 0.1, 2.0),
    "digits": Augmentation(0.5, 0.0, 0.8, 0.2, 0.4, 0.0, 0.0, 0.0, 0.0, 0.1, 2.0),
}


def recipe(name: str, **overrides: float | None) -> Augmentation:
    """The named recipe with some of its values replaced.

    Args:
        name: moco_v2 | simclr | digits.
        **overrides: fields of `Augmentation`; `None` keeps the recipe's value.

    Raises:
        UserError: for an unknown recipe or field, or blur_sigma_max < blur_sigma_min.
    """
    if name not in RECIPES:
        raise UserError(
            f"--augmentation: expected one of {', '.join(RECIPES)}. Received: {name!r}."
        )
    unknown = sorted(set(overrides) - set(Augmentation._fields))
    if unknown:
        raise UserError(
            f"Augmentation: expected fields among {', '.join(Augmentation._fields)}. "
            f"Received: {', '.join(unknown)}."
        )
    given = {key: value for key, value in overrides.items() if value is not None}
    result = RECIPES[name]._replace(**given)
    if result.blur_sigma_max < result.blur_sigma_min:
        raise UserError(
            f"--blur_sigma_max: expected at least --blur_sigma_min={result.blur_sigma_min}. "
            f"Received: {result.blur_sigma_max}."
        )
    return result
