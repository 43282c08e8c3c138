"""What pairs of a precision and recall were worth on digits, where true labels made them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ifnd_tf.report.published import packaged
from ifnd_tf.run.metric_names import describe
from ifnd_tf.run.records import RunRecords


def read() -> dict[str, Any]:
    """pair_quality.json, from a comparison with --detector=noisy_oracle.

    "data", "date", "seeds" and "from"; "gains": treatment -> recall -> precision -> the mean gains
    over plain training in each of the "measures", shares.
    """
    return packaged("pair_quality.json")


def expected_gain(run: RunRecords) -> str:
    """What pairs of the quality of the last refresh were worth, in words; "" if not known.

    Linear in the precision and in the logarithm of the recall, between those that were tried;
    beyond them as the nearest.
    """
    found = read()
    lines = found["gains"].get(run.flags.get("treatment", "eliminate"))
    precision, recall = run.result("detection_precision"), run.result("detection_recall")
    if not lines or not precision or not recall:
        return ""
    at_precision = [_between(precision, points) for points in lines.values()]
    gains = _between(
        np.log(recall), dict(zip(map(np.log, map(float, lines)), at_precision, strict=True))
    )
    told = [
        f"{round(100 * gain):+d} points of {describe(name).text}"
        for name, gain in zip(found["measures"], gains, strict=True)
    ]
    return (
        f"on {found['data']}, pairs drawn at random with such precision and recall were worth "
        f"about {' and '.join(told)}"
    )


def _between(place: float, points: Mapping[Any, Sequence[float]]) -> list[float]:
    """Each gain at a place between the points, whose gains are known."""
    places = [float(each) for each in points]
    columns = zip(*points.values(), strict=True)
    return [float(np.interp(place, places, gains)) for gains in columns]
