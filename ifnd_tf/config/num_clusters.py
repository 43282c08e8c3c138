"""`--num_clusters`: the number of clusters K of each level."""

from ifnd_tf.errors import UserError

# The smallest K of "auto" as a share of N, and its range.
_AUTO_SHARE = 0.002
_AUTO_RANGE = (10, 25_000)
# Counting the pairs of any level takes 2^L sorts of the labels.
_MOST_LEVELS = 10


def check_spelling(spec: str) -> None:
    """Raises `UserError` if `resolve_num_clusters` cannot read it for any N."""
    if spec.strip() == "auto":
        return
    items = spec.split(",")
    for item in items:
        _resolve_one(item.strip(), 1, spec)
    if len(items) > _MOST_LEVELS:
        raise UserError(
            f"--num_clusters: expected at most {_MOST_LEVELS} numbers, a level each. Received: "
            f"{len(items)}, {spec!r}; leave some out."
        )


def resolve_num_clusters(spec: str, num_examples: int) -> list[int]:
    """Turns the setting `num_clusters` into one K per level, ascending.

    "auto" takes 0.2, 0.4 and 0.8% of N, so 500, 250 and 125 examples per cluster, with the
    smallest K kept within 10 and 25,000 (PCL's smallest on ImageNet), at most N / 8 and at least
    2. Of fewer than 16 examples it leaves out levels of less than 2 examples per cluster.

    Args:
        spec: comma list of whole numbers or shares of N ("10,20,40", "1%,2%"), or "auto".
        num_examples: N.

    Returns:
        [L] numbers of clusters, each in [2, N].

    Raises:
        UserError: the list does not parse, is not ascending, or a K is below 2 or above N.
    """
    spec = spec.strip()
    if spec == "auto":
        smallest = min(max(round(_AUTO_SHARE * num_examples), _AUTO_RANGE[0]), _AUTO_RANGE[1])
        smallest = max(2, min(smallest, num_examples // 8))
        finer = [smallest * factor for factor in (2, 4)]
        result = [smallest, *(number for number in finer if 2 * number <= num_examples)]
    else:
        result = [_resolve_one(item.strip(), num_examples, spec) for item in spec.split(",")]
    source = f"from {spec!r} with N={num_examples}"
    if min(result) < 2:
        raise UserError(
            "--num_clusters: expected every K to be 2 or more, since one cluster would make every "
            f"pair a false negative. Received: K={min(result)} {source}."
        )
    if max(result) > num_examples:
        raise UserError(
            "--num_clusters: expected every K to be at most the number of examples "
            f"N={num_examples}. Received: K={max(result)} {source}; ask for fewer, or for auto."
        )
    if sorted(set(result)) != result:
        raise UserError(
            f"--num_clusters: expected numbers that ascend. Received: {result} {source}."
        )
    return result


def _resolve_one(item: str, num_examples: int, spec: str) -> int:
    try:
        number = float(item[:-1]) / 100.0 * num_examples if item.endswith("%") else int(item)
        return round(number)
    except (ValueError, OverflowError):
        raise UserError(
            "--num_clusters: expected whole numbers such as 10,20,40, shares of N such as 1%,2%, "
            f"or auto. Received: {item!r} in {spec!r}."
        ) from None
