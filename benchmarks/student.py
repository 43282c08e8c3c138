r"""A small student against its teacher: accuracy, size, and images a second on one core.

    python examples/embed_with_pytorch.py data/cifar10 train data/cifar10_teacher.npz
    python examples/embed_with_pytorch.py data/cifar10 test data/cifar10_teacher_test.npz
    python -m benchmarks.student --student=RUN/saved_model --data=data/cifar10 \
        --teacher=data/cifar10_teacher.npz --teacher_test=data/cifar10_teacher_test.npz

The student is the SavedModel of a run with `--teacher`; data/cifar10 holds train/CLASS/*.jpg and
test/CLASS/*.jpg. Both sides start from files; accuracies are those of `--mode=evaluate`.
"""

import argparse
import os
import pathlib
from collections.abc import Iterator, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks import peer, rows
from benchmarks.rows import Row, in_turn, row, seconds

_PEER = "EfficientNet-Lite0, PyTorch"
_MEASURES = {
    "knn_top1": "kNN accuracy",
    "linear_1pct_top1": "linear accuracy, 1% of the labels",
    "linear_10pct_top1": "linear accuracy, 10% of the labels",
    "cluster_nmi": "NMI of k-means",
}

_BATCH = 64


class Student:
    """The features of an exported SavedModel.

    Args:
        path: the SavedModel's folder.
    """

    def __init__(self, path: str):
        import tensorflow as tf

        self._constant, self._model = tf.constant, tf.saved_model.load(path)

    def features(self, files: Sequence[pathlib.Path]) -> np.ndarray:
        """Features of image files, float32 [n, F]."""
        function, found = self._model.signatures["encoded"], []
        for start in range(0, len(files), _BATCH):
            contents = [path.read_bytes() for path in files[start : start + _BATCH]]
            found.append(function(encoded=self._constant(contents))["features"].numpy())
        return np.concatenate(found)

    def weights_megabytes(self) -> float:
        """The size of the encoder's weights and batch statistics, the projector's included."""
        variables = [*self._model.trainable_variables, *self._model.non_trainable_variables]
        return sum(variable.numpy().nbytes for variable in variables) / 1e6


def accuracies(features: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> dict[str, float]:
    """The measures of `--mode=evaluate` on the training and the test images."""
    from ifnd_tf.evaluation.embed import Embeddings
    from ifnd_tf.evaluation.few_labels import label_subset_probe
    from ifnd_tf.evaluation.kmeans_nmi import clustering
    from ifnd_tf.evaluation.knn import weighted_knn

    train, test = (Embeddings(*split) for split in zip(features, labels, strict=True))
    found = dict(weighted_knn(train, test)) | dict(label_subset_probe(train, test))
    return found | dict(clustering(test))


def teachers_features(file: str, data: pathlib.Path, paths: Sequence[pathlib.Path]) -> np.ndarray:
    """The rows of an embedding file for some images, float32 [n, D]."""
    with np.load(file) as table:
        places = {path: place for place, path in enumerate(table["path"].tolist())}
        chosen = [places[path.relative_to(data).as_posix()] for path in paths]
        return table["embedding"][chosen].astype(np.float32)


def measure(
    student: str, data: pathlib.Path, teacher: str, teacher_test: str, timed: int, rounds: int
) -> Iterator[Row]:
    """The rows; see the module."""
    # One core for both: the peer inherits it, and TensorFlow counts cores when it is imported.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ours = Student(student)
    splits = [sorted((data / split).glob("*/*")) for split in ("train", "test")]
    chosen = np.random.default_rng(0).permutation(len(splits[1]))[:timed]
    files = [splits[1][place] for place in chosen]
    case = f"{len(files)} images of {data.name}, from files"
    with peer.started("efficientnet_lite", _PEER) as other:
        contenders = {"student": lambda: len(files) / seconds(lambda: ours.features(files))}
        if other is not None:
            names = [str(path.resolve()) for path in files]
            contenders["teacher"] = lambda: len(files) / other.call("seconds", paths=names)
        found = in_turn(contenders, rounds)
        size = None if other is None else [other.call("weights_megabytes")]
    speed = found.get("teacher")
    yield row(case, "images/s on one core", found["student"], speed, _PEER, larger_is_better=True)
    yield row("weights", "MB", [ours.weights_megabytes()], size, _PEER)
    labels = [np.unique([p.parent.name for p in part], return_inverse=True)[1] for part in splits]
    own = accuracies([ours.features(part) for part in splits], labels)
    tables = zip((teacher, teacher_test), splits, strict=True)
    theirs = accuracies([teachers_features(file, data, part) for file, part in tables], labels)
    for name, title in _MEASURES.items():
        yield row("test images", title, [own[name]], [theirs[name]], _PEER, larger_is_better=True)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--student", required=True, metavar="SAVED_MODEL")
    parser.add_argument("--data", required=True, type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--teacher", required=True, metavar="FILE", help="rows of train/")
    parser.add_argument("--teacher_test", required=True, metavar="FILE", help="rows of test/")
    parser.add_argument("--timed", type=int, default=512, help="images for the speed")
    parser.add_argument("--rounds", type=int, default=5)
    rows.run("student", parser, measure)


if __name__ == "__main__":
    main()
