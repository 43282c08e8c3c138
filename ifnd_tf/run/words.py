"""Things in words, for messages and pages."""

# What a run gets from each detector.
DETECTORS = {
    "ifnd": "incremental false negative detection",
    "neighbours": "false negatives from mutual nearest neighbours",
    "noisy_oracle": "false negatives from true labels with noise",
    "none": "no detector",
    "oracle": "false negatives from true labels",
    "random": "permuted labels (control)",
}


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number of things: "1 image", "2,000 images".

    Args:
        count: how many.
        noun: what one of them is called.
        plural: what several are called, if not the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
