"""Settings of --mode=compare."""

import dataclasses

from ifnd_tf.config.setting import changeable


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Comparison: --mode=compare."""

    variants: str = changeable(
        "none,ifnd,oracle,random",
        "What to compare, a comma list whose first entry is the baseline. An entry is a detector, "
        "or NAME:FLAG=VALUE;FLAG=VALUE, as in cold:temperature=0.1;detector=none. A comma is "
        "part of a value unless an entry follows it. FLAG=VALUE|VALUE gives alternatives for "
        "--tuning_trials; without trials the first counts. NAME:flagfile=FILE takes the flags of a "
        "file. Given several times, the flag adds entries, so a flagfile can list one a line; an "
        "empty --variants= drops the entries before it.",
        repeats=True,
    )
    only_variants: str = changeable(
        "", "Names of --variants to run, a comma list, to run a few of many. Empty: all."
    )
    seeds: int = changeable(
        3,
        "Runs of each variant, with seeds --seed, --seed + 1, ... A seed has the same order, views "
        "and initial weights in every variant. Small effects need ten.",
        low=1,
    )
    tuning_trials: int = changeable(
        0,
        "Trials for each variant before its runs, as many for every one: combinations of its "
        "alternatives, the first and others drawn at random, trained with one seed and evaluated "
        "on --validation_share of the training images. The best by mean rank over the protocols "
        "is then trained with every seed on all of them. 0: no tuning.",
        low=0,
    )
    jobs: int = changeable(
        1,
        "Runs side by side, each in a process of its own, with results equal to those of one after "
        "the other. Each needs its memory, and a core to be of use. 0: a job for each core, if "
        "there are 2 GiB of memory for each. With several devices or workers, one run "
        "follows the other, since each uses all.",
        low=0,
    )
