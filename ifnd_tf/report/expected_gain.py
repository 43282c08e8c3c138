"""What pairs of a precision and recall were worth on the digits, where true labels made them."""

import importlib.resources
import json
from typing import Any

import numpy as np

from ifnd_tf.run.metric_names import describe
from ifnd_tf.run.records import RunRecords


def read() -> dict[str, Any]:
    """pair_quality.json, from a comparison with --detector=noisy_oracle.

    "data", "date" and "from"; "gains": treatment -> recall -> precision -> the mean gains over
    plain training in the "measures", shares.
    """
    file = importlib.resources.files("ifnd_tf.report").joinpath("pair_quality.json")
    return json.loads(file.read_text("utf-8"))


def expected(run: RunRecords) -> str:
    """The gain that pairs of the last refresh's quality had, as a clause; "" if not known.

    Linear in the precision and in the logarithm of the recall, between the qualities tried; beyond
    them that of the nearest.
    """
    found = read()
    lines = found["gains"].get(run.flags.get("treatment", "eliminate"))
    precision, recall = run.result("detection_precision"), run.result("detection_recall")
    if not lines or not precision or not recall:
        return ""
    by_recall = [_at(precision, points) for points in lines.values()]
    gains = [
        np.interp(np.log(recall), np.log([float(each) for each in lines]), each)
        for each in zip(*by_recall, strict=True)
    ]
    told = [
        f"{100 * gain:+.0f} in {describe(name).text}"
        for name, gain in zip(found["measures"], gains, strict=True)
    ]
    return f"on {found['data']}, pairs of such precision and recall were worth about {' and '.join(told)} points"


def _at(precision: float, points: dict[str, list[float]]) -> list[float]:
    """The gains at a precision, of those at one recall."""
    known = [float(each) for each in points]
    return [float(np.interp(precision, known, gains)) for gains in zip(*points.values(), strict=True)]
