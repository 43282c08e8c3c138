"""Settings of the teacher."""

import dataclasses

from ifnd_tf.config.setting import changeable, setting, share


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Teacher: soft targets from another encoder's similarities."""

    teacher: str = setting(
        "",
        "Embeddings whose similarities are soft targets of the loss, so that a small student "
        "learns a large encoder's neighbourhoods: the path of a file or of a SavedModel, as for "
        "--detect_with. Empty: none.",
    )
    teacher_weight: float = share(
        0.5,
        "Weight w of the teacher: the target is 1 - w times --treatment's own target, plus w times "
        "the teacher's softmax over the candidates. For an image without a row, w goes to the key. "
        "0.5 is the target of SCE, and 1 with --treatment=decoupled that of ReSSL, with the "
        "teacher's similarities.",
    )
    teacher_weight_schedule: str = setting(
        "constant",
        "constant: w throughout; linear, cosine: w falls from the first epoch to 0 at the last.",
        ("constant", "linear", "cosine"),
    )
    teacher_temperature: float = setting(
        0.04,
        "Temperature T_m of the teacher's softmax over cosines. ReSSL: 0.04, SCE: 0.07. With "
        "EfficientNet-Lite0's embeddings of 3,000 CIFAR-10 images, images of the anchor's class "
        "get 0.57 of that softmax at 0.04, and 0.42 at 0.07.",
        above=0,
    )
    teacher_note: str = changeable(
        "",
        "What the report says of the embeddings of --teacher or --detect_with, such as "
        '"trained on ImageNet with labels", since labels may then have leaked into the results.',
    )
