"""Settings of the report, trackers, the exported model and the embedded images."""

import dataclasses

from ifnd_tf.config.setting import changeable, setting

EXPORTS = ("saved_model", "keras", "onnx", "tflite")


@dataclasses.dataclass(frozen=True)
class Results:
    """Results: report, trackers, exported models and embeddings."""

    report_examples: int = changeable(
        5000,
        "Training images to embed for the report's map, nearest neighbours and clusters. "
        "0: the report shows no images.",
        low=0,
    )
    report_share: float = changeable(
        0.005,
        "Largest share of the training time for refreshing report.html, first after a minute; 0: "
        "written at the end only.",
        low=0,
        high=0.1,
    )
    wandb: bool = changeable(False, "Also log to Weights & Biases; needs the package wandb.")
    mlflow: bool = changeable(False, "Also log to MLflow; needs the package mlflow.")
    export_formats: str = changeable(
        "saved_model,keras",
        "What --mode=export writes, a comma list. saved_model: images of any size, needs "
        "TensorFlow alone; keras: a model of stock layers, and its weights; onnx: needs tf2onnx; "
        "tflite: TensorFlow Lite.",
    )
    embeddings: str = setting(
        "",
        "A file of any tool's embeddings for --mode=embed, in place of the run's encoder: .npz or "
        ".parquet, as for --detect_with. For the features of a SavedModel: --saved_model.",
    )
    embed_dataset: str = changeable(
        "", "Images for --mode=embed, spelt as --dataset. Empty: those of the run."
    )
    embed_format: str = changeable(
        "npz",
        "Format of --mode=embed's table of features. npz: NumPy; parquet: pandas and others.",
        ("npz", "parquet"),
    )
    embed_clusters: int = changeable(
        0,
        "Clusters in --mode=embed's clusters.csv; 0: the fewest of --num_clusters, for sorting "
        "by hand, and without a run the square root of half the images.",
        low=0,
    )
    embed_folders: str = changeable(
        "none",
        "Sort the image files into a folder for each cluster, embeddings/clusters/NNN: by symbolic "
        "links, or by copies, for programs and disks that know no links. Once: a later "
        "--mode=embed does not repeat it.",
        ("none", "link", "copy"),
        once=True,
    )
    embed_diverse: int = changeable(
        0,
        "Images in --mode=embed's diverse.csv: a subset that covers the data, each image as far as "
        "possible from those before it. 0: no such list. Once, as --embed_folders.",
        low=0,
        once=True,
    )
    duplicate_similarity: float = changeable(
        0.95,
        "Least cosine of centred features at which --mode=embed calls two images of a cluster "
        "near duplicates. On copies made of CIFAR-10's images 0.95 has precision 0.96 and recall "
        "0.77 (examples/near_duplicates.py).",
        above=0,
        high=1,
    )
