"""Settings of --mode=compare."""

import dataclasses

from ifnd_tf.config.setting import changeable


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Comparison: --mode=compare."""

    variants: str = changeable(
        "none,ifnd,oracle,random",
        "What to compare, a comma list whose first entry is the baseline. An entry is a detector, "
        "or NAME:FLAG=VALUE;FLAG=VALUE, as in cold:temperature=0.1;detector=none. A comma inside a "
        "value belongs to it unless an entry follows. Given again, the flag adds entries; an empty "
        "--variants= drops those before it.",
        repeats=True,
    )
    seeds: int = changeable(
        3,
        "Runs of each variant, with seeds --seed, --seed + 1, ... A seed has the same order, views "
        "and initial weights in every variant. Small effects need ten.",
        low=1,
    )
