"""The recipes against the papers, and what may be changed of them."""

import pytest

from ifnd_tf.data import recipes
from ifnd_tf.errors import UserError

BLUR = {"blur_sigma_min": 0.1, "blur_sigma_max": 2.0}
PUBLISHED = {
    # MoCo's aug_plus in main_moco.py.
    "moco_v2": BLUR
    | {
        "crop_min_area": 0.2, "flip_probability": 0.5, "jitter_probability": 0.8,
        "jitter_brightness": 0.4, "jitter_contrast": 0.4, "jitter_saturation": 0.4,
        "jitter_hue": 0.1, "gray_probability": 0.2, "blur_probability": 0.5,
    },
    # Appendix A of SimCLR: strength s = 1 makes 0.8 s, 0.8 s, 0.8 s and 0.2 s.
    "simclr": BLUR
    | {
        "crop_min_area": 0.08, "flip_probability": 0.5, "jitter_probability": 0.8,
        "jitter_brightness": 0.8, "jitter_contrast": 0.8, "jitter_saturation": 0.8,
        "jitter_hue": 0.2, "gray_probability": 0.2, "blur_probability": 0.5,
    },
    # Grey images of which the mirrored one is another class: no colours, flips or blur.
    "digits": BLUR
    | {
        "crop_min_area": 0.5, "flip_probability": 0.0, "jitter_probability": 0.8,
        "jitter_brightness": 0.2, "jitter_contrast": 0.4, "jitter_saturation": 0.0,
        "jitter_hue": 0.0, "gray_probability": 0.0, "blur_probability": 0.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_recipes_are_the_published_ones(name):
    assert recipes.recipe(name)._asdict() == PUBLISHED[name]


def test_recipe_overrides_only_what_is_given():
    changed = recipes.recipe("moco_v2", crop_min_area=0.5, flip_probability=None)
    assert changed == recipes.RECIPES["moco_v2"]._replace(crop_min_area=0.5)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("mocov2", {}, "moco_v2, simclr, digits. Received: 'mocov2'"),
        ("moco_v2", {"hue": 0.1}, "Received: hue"),
        ("moco_v2", {"blur_sigma_max": 0.05}, "at least --blur_sigma_min=0.1. Received: 0.05"),
    ],
)
def test_bad_recipes_are_named(name, overrides, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        recipes.recipe(name, **overrides)
