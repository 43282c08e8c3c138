"""InfoNCE with false negatives treated by the rules of `--treatment`.

MoCo's negatives are the queue, SimCLR's the other images of the batch. Sources: InfoNCE (van den
Oord et al. 2018, arXiv 1807.03748), elimination and attraction as in IFND (Chen et al., ICLR 2022,
arXiv 2106.03719); the other rules name theirs.
"""

import functools
from typing import NamedTuple

import tensorflow as tf

from ifnd_tf.models.info_nce import Pairs, Treatment, info_nce, row_counts
from ifnd_tf.models.rule import Batch, Rule, RuleInputs, reduced
from ifnd_tf.models.teacher import Teacher, taught
from ifnd_tf.models.treatment_metrics import detected_sums, lacking_share, masked_share
from ifnd_tf.models.treatments.attract import Attract
from ifnd_tf.models.treatments.eliminate import Eliminate


class ContrastiveLoss(NamedTuple):
    """The loss of a batch.

    Attributes:
        per_anchor: float32 [B], the loss in nats, averaged over the L levels.
        masked_share: float32 [], share of the valid negatives that are detected false negatives,
            over all anchors and levels; for weights between 0 and 1, the mean of 1 - w.
        state: the anchors' new rows of each `Rule.state`, by name.
        detected: float32 [3], the sums behind precision and recall of the pairs that rules detect
            in the step, see `detected_sums`; None if they detect none.
    """

    per_anchor: tf.Tensor
    masked_share: tf.Tensor
    state: dict[str, tf.Tensor]
    detected: tf.Tensor | None = None


class LossSettings(NamedTuple):
    """The settings of the loss.

    Attributes:
        temperature: tau > 0, divides the similarities.
        rules: the treatment of false negatives, in this order.
        rescale_negatives: multiply the kept negatives' sum by (valid count / kept count), so that
            masking does not shrink the denominator.
        level_combination: "mean" of the levels' losses, or one loss of the levels' "union".
        steps_per_epoch, epochs: of the run, for rules with a schedule.
        teacher: how a teacher's embeddings become targets; None: there are none.
    """

    temperature: float = 0.2
    rules: tuple[Rule, ...] = (Eliminate(),)
    rescale_negatives: bool = False
    level_combination: str = "mean"
    steps_per_epoch: int = 1
    epochs: int = 1
    teacher: Teacher | None = None

    @property
    def state(self) -> dict[str, float]:
        """First values of the state that rules keep for each example, by name."""
        return {name: value for rule in self.rules for name, value in rule.state.items()}

    @property
    def detects(self) -> str:
        """How the rules detect false negatives in the step; see `Rule.detects`."""
        kinds = {rule.detects for rule in self.rules}
        return next((kind for kind in ("weights", "pairs", "target") if kind in kinds), "")

    def needs(self, what: str) -> bool:
        """Whether some rule needs this input; see `Rule.needs`."""
        return any(what in rule.needs for rule in self.rules)


@tf.function(jit_compile=True, autograph=False)
def label_info_nce(
    positive: tf.Tensor,
    logits: tf.Tensor,
    valid: tf.Tensor,
    index: tuple[tf.Tensor, tf.Tensor],
    labels: tuple[tf.Tensor, tf.Tensor],
    settings: LossSettings,
    inputs: RuleInputs | None = None,
    truth: tuple[tf.Tensor, tf.Tensor] | None = None,
) -> ContrastiveLoss:
    """The treated loss of a batch, in one compiled pass.

    Args:
        positive: float32 [B], similarity to the key, divided by the temperature.
        logits: float32 [B, M], similarities to the negatives, likewise.
        valid: bool [M] or [B, M]; False leaves a negative out.
        index: examples of the anchors int32 [B], and of the negatives int32 [M]. With labels, a
            negative of the anchor's own example is invalid: an older key of it is the surest
            false negative, and too stale to attract.
        labels: pseudo-labels of the anchors int32 [L, B], and of the negatives int32 [L, M]; -1 for
            "not accepted". L = 0: there are none.
        settings: the rules and how levels combine; its temperature is not applied again.
        inputs: what the rules read; what no rule needs may be left out.
        truth: classes of the anchors int32 [B] and of the negatives int32 [M], -1 for unknown, to
            measure what the rules detect; None: it is not measured.

    Raises:
        ValueError: if the state or another input of a rule is missing.
    """
    anchors = tf.where(labels[0] < 0, -2, labels[0])  # -1 never equals -1
    levels = zip(tf.unstack(anchors), tf.unstack(labels[1]), strict=True)
    same: list[Pairs] = [functools.partial(_equal, *level) for level in levels]

    def valid_pairs() -> tf.Tensor:
        return tf.logical_and(valid, ~_equal(*index) if same else tf.ones(logits.shape, tf.bool))

    if same and settings.level_combination == "union":
        same = [functools.partial(reduced, tf.logical_or, *same)]
    fixed = tf.stop_gradient(positive), tf.stop_gradient(logits)
    if same or valid.shape.rank == 2:
        num_valid = row_counts([valid_pairs])[0]
    else:  # the same candidates for all anchors
        num_valid = tf.fill(positive.shape, tf.reduce_sum(tf.cast(valid, tf.float32)))
    batch = Batch(
        *fixed, valid_pairs, num_valid, same, index, settings.temperature, settings.epochs,
        inputs or RuleInputs({}),
    )  # fmt: skip
    _check_given(batch.inputs, settings)
    return _treated(positive, logits, batch, settings, truth)


def masked_info_nce(
    positive: tf.Tensor,
    negatives: tf.Tensor,
    *,
    valid: tf.Tensor | None = None,
    false_negative: tf.Tensor | None = None,
    mode: str = "eliminate",
    rescale: bool = False,
) -> ContrastiveLoss:
    """InfoNCE over L levels of detected false negatives, with one exponential for all.

    With p the positive's logit, n the negatives' and F_l the false negatives of level l:

    - eliminate: `-p + log(e^p + sum over n not in F_l of e^n)`;
    - attract: `log(e^p + sum of all e^n) - mean(p and the logits in F_l)`.

    Both are averaged over l. Without false negatives both are plain InfoNCE. The gradient is a
    closed form, which cannot be differentiated again.

    Args:
        positive: float32 [B], similarity to the positive divided by the temperature.
        negatives: float32 [B, M], similarities to the negatives divided by the temperature.
        valid: bool, broadcastable to [B, M]; False removes an entry altogether (an empty
            slot of the queue, the anchor itself). None: all are valid.
        false_negative: bool [L, B, M], L static, or None for the plain loss.
        mode: "eliminate" or "attract".
        rescale: multiply the kept negatives' sum by (valid count / kept count), so that
            elimination does not shrink the denominator (eliminate only).

    Returns:
        A `ContrastiveLoss`.

    Raises:
        ValueError: if `mode` is unknown or ranks do not fit.
    """
    rules: dict[str, Rule] = {"eliminate": Eliminate(), "attract": Attract()}
    if mode not in rules:
        raise ValueError(f"mode: expected 'eliminate' or 'attract'. Received: {mode!r}")
    positive, negatives = map(tf.convert_to_tensor, (positive, negatives))
    tf.debugging.assert_rank(positive, 1)
    tf.debugging.assert_rank(negatives, 2)
    pairs = tf.broadcast_to(True if valid is None else valid, tf.shape(negatives))
    levels: list[Pairs] = []
    if false_negative is not None:
        tf.debugging.assert_rank(false_negative, 3)
        levels = [functools.partial(tf.identity, mask) for mask in tf.unstack(false_negative)]
    settings = LossSettings(rules=(rules[mode],), rescale_negatives=rescale)
    none = tf.zeros([0], tf.int32), tf.zeros([0], tf.int32)
    counts = row_counts([lambda: pairs])[0]
    batch = Batch(positive, negatives, lambda: pairs, counts, levels, none, settings.temperature)
    return _treated(positive, negatives, batch, settings)


def false_negatives(anchor_labels: tf.Tensor, negative_labels: tf.Tensor) -> tf.Tensor:
    """Which negatives carry the anchor's pseudo-label, level by level.

    Args:
        anchor_labels: int32 [L, B], -1 for "not accepted".
        negative_labels: int32 [L, M], likewise.

    Returns:
        bool [L, B, M]; -1 never equals -1.
    """
    tf.debugging.assert_rank(anchor_labels, 2)
    tf.debugging.assert_rank(negative_labels, 2)
    # No label is -2, so one comparison tests both acceptance and equality.
    anchors = tf.where(anchor_labels < 0, -2, anchor_labels)
    return anchors[:, :, None] == negative_labels[:, None, :]


def _check_given(inputs: RuleInputs, settings: LossSettings) -> None:
    missing = [name for name in settings.state if name not in inputs.state]
    if settings.needs("key_similarities") and inputs.key_similarities is None:
        missing.append("key_similarities")
    if settings.needs("embeddings") and not inputs.embeddings:
        missing.append("embeddings")
    if missing:
        raise ValueError(
            f"label_info_nce: expected {', '.join(missing)}, which the rules need. Received: None."
        )


def _treated(
    positive: tf.Tensor,
    logits: tf.Tensor,
    batch: Batch,
    settings: LossSettings,
    truth: tuple[tf.Tensor, tf.Tensor] | None = None,
) -> ContrastiveLoss:
    """The loss of a batch after all rules."""
    state: dict[str, tf.Tensor] = {}
    for rule in settings.rules:
        state |= rule.next_state(batch)
    inputs = batch.inputs._replace(state=batch.inputs.state | state)
    batch = batch._replace(inputs=inputs)
    treatment = _applied(settings.rules, batch, Treatment(rescale=settings.rescale_negatives))
    detected = None
    if settings.detects and truth is not None:
        # Pairs that other rules treat, as those of pseudo-labels, are not found by these.
        finders = tuple(rule for rule in settings.rules if rule.detects == settings.detects)
        alone = finders == settings.rules
        found = treatment if alone else _applied(finders, batch, Treatment())
        detected = detected_sums(found, batch, truth, settings.detects)
    if settings.teacher is not None:
        treatment = taught(treatment, batch, settings.teacher)
    detected_pairs, share = treatment.masked or treatment.attracted, tf.zeros([])
    if settings.detects == "weights":
        share = lacking_share(batch.valid(), treatment)
    elif detected_pairs:
        share = masked_share(batch.valid(), detected_pairs)
    loss = info_nce(positive, logits, batch.valid, treatment)
    return ContrastiveLoss(loss, share, state, detected)


def _applied(rules: tuple[Rule, ...], batch: Batch, treatment: Treatment) -> Treatment:
    for rule in rules:
        treatment = rule.apply(batch, treatment)
    return treatment


def _equal(anchors: tf.Tensor, negatives: tf.Tensor) -> tf.Tensor:
    return anchors[:, None] == negatives[None, :]
