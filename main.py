"""Trains, evaluates and exports: flags -> one call per stage.

    python main.py                                        # IFND on handwritten digits
    python main.py --preset=photos --dataset=folder:PATH

The same as the installed command `ifnd`. In ifnd_tf/:

    command_line  reads flags; nothing below it does
    config        the settings, which are the flags, and their help
    distribute    strategies, workers and what replicas exchange
    run           run directory, checkpoints, lock, progress on the terminal
    clustering    k-means on the devices
    data          data sets, decoding, views, batches
    models        networks, MoCo and SimCLR, losses, optimisers
    detection     embeddings, detectors, pseudo-labels and their metrics
    evaluation    kNN, probes, fine-tuning, transfer, collapse
    export        SavedModel, Keras, ONNX, TensorFlow Lite, model card
    report        the pages of a run and of a comparison
    training      the training loop and its callbacks
    stages        a file for each --mode, and what builds a run from its settings
"""

import sys

from ifnd_tf.command_line import main, parse, parse_flagfile

__all__ = ["main", "parse", "parse_flagfile"]

if __name__ == "__main__":
    sys.exit(main())
