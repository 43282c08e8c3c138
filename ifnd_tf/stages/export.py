"""`--mode=export`: the trained encoder in files that need nothing of this project."""

from ifnd_tf.export import keras_formats, model_card, saved_model
from ifnd_tf.stages import build
from ifnd_tf.stages.run import Run


def export_model(run: Run) -> None:
    """Writes the formats of `--export_formats` and the model card."""
    model, names = run.trained_model(), run.config.export_names
    if not run.directory.writer:
        return
    path, size = run.directory.file("encoder"), run.config.image_size
    written = []
    if "saved_model" in names:
        written.append(run.directory.file("saved_model"))
        saved_model.export(written[0], model.network, size, build.decoding(run.config))
    if {"keras", "onnx", "tflite"} & set(names):
        encoder = keras_formats.keras_encoder(model.encoder, size)
        written += keras_formats.write_keras(path, encoder) if "keras" in names else []
        written += keras_formats.write_onnx(path, encoder) if "onnx" in names else []
        written += keras_formats.write_tflite(path, encoder) if "tflite" in names else []
    written.append(model_card.write(run.directory.path))
    run.progress.line("\n".join(f"exported {each}" for each in written))
