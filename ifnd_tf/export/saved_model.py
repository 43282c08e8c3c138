"""The encoder as a SavedModel that needs neither Keras nor this package."""

from collections.abc import Iterable

import keras
import tensorflow as tf

from ifnd_tf.data.crops import centre_view
from ifnd_tf.data.decode import DECODING, Decoding, decode_image
from ifnd_tf.errors import UserError, cause
from ifnd_tf.models.network import Network
from ifnd_tf.models.weights import Weight, misfits
from ifnd_tf.run import machine


class ExportedEncoder(tf.train.Checkpoint):
    """Two signatures, from images as users have them to features and embedding.

    Variables are the model's own, so that a loaded SavedModel can be trained further. Batch norm
    always uses its running statistics.

    Args:
        network: the encoder and its projector.
        image_size: S.
        decoding: how encoded images become pixels.
    """

    def __init__(self, network: Network, image_size: int, decoding: Decoding = DECODING):
        super().__init__()
        self._decoding = decoding
        self._outputs = network.inference
        self._image_size = image_size
        # Plain variables, since Keras objects would need Keras' own loader. The attributes have the
        # names of a loaded Keras model's.
        self.trainable_variables = [v.value for n in network for v in n.trainable_variables]
        self.non_trainable_variables = [v.value for n in network for v in n.non_trainable_variables]
        self.variables = self.trainable_variables + self.non_trainable_variables

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")],
        autograph=False,
    )
    def serving_default(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Features of uint8 images of any one size.

        Args:
            images: uint8 RGB `[b, H, W, 3]`.

        Returns:
            "features" float32 `[b, F]`; "embedding" float32 `[b, D]`, of unit length.
        """
        return self._of_views(centre_view(images, self._image_size))

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, name="encoded")], autograph=False
    )
    def encoded(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        """Features of encoded images, each of its own size: JPEG and PNG of any kind, upright and
        composited as in training, and BMP, GIF and WebP without palette, transparency, Exif data
        or animation. One image that is none of these fails the whole batch.

        Args:
            encoded: string `[b]`, the files' bytes; b may be 0.

        Returns:
            As `serving_default`.
        """
        size = self._image_size
        views = tf.map_fn(
            lambda contents: centre_view(
                decode_image(contents, self._decoding, view_size=size), size
            ),
            encoded,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
        )
        return self._of_views(views)

    def _of_views(self, views: tf.Tensor) -> dict[str, tf.Tensor]:
        # TensorFlow's fused convolutions fail on an empty batch, so it gets a black image.
        count = tf.shape(views)[0]
        filled = tf.pad(views, [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
        return {name: value[:count] for name, value in self._outputs(filled).items()}


def export(path: str, network: Network, image_size: int, decoding: Decoding = DECODING) -> None:
    """Writes a SavedModel with two signatures, preprocessing included.

    `serving_default` takes "images" uint8 `[b, H, W, 3]` of any size, `encoded` takes "encoded",
    file contents as string `[b]`. Both return "features" float32 `[b, F]` and "embedding" float32
    `[b, D]`, of unit length. The file loads with `tf.saved_model.load`, without Keras and without
    this package; its `trainable_variables` can be trained further.

    Args:
        path: the SavedModel's directory, local or gs://; overwritten.
        network: the encoder and its projector, which may have been built under any strategy.
        image_size: side S of the square view that the encoder gets, in pixels.
        decoding: how encoded images become pixels; the run's own, so that they look as in training.

    Raises:
        UserError: if `path` cannot be written.
    """
    module = ExportedEncoder(network, image_size, decoding)
    signatures = {"serving_default": module.serving_default, "encoded": module.encoded}
    # Variables of a remote TPU travel through this host's disk, not the TPU worker's.
    options = tf.saved_model.SaveOptions(experimental_io_device=machine.io_device())
    try:
        # Written aside and renamed: a killed process leaves no half model under the final name.
        tf.saved_model.save(module, path + ".new", signatures=signatures, options=options)
        if tf.io.gfile.exists(path):
            tf.io.gfile.rmtree(path)
        tf.io.gfile.rename(path + ".new", path)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"Expected a directory that can be written for the SavedModel. Received: {path!r} "
            f"({error}); choose another --workdir."
        ) from error


def _reason(error: Exception) -> str:
    own = "its variables are not listed as ours are"
    return own if isinstance(error, AttributeError) else cause(error)


def _weights(variables: Iterable[keras.Variable | tf.Variable]) -> list[Weight]:
    return [Weight(getattr(v, "path", v.name), v.numpy()) for v in variables]


def read_weights(path: str, network: Network) -> tuple[list[Weight], list[Weight]]:
    """The weights of encoder and projector in a SavedModel that `export` wrote.

    Args:
        path: the SavedModel's directory, local or gs://.
        network: of the architecture that is expected; the variables have its order.

    Returns:
        The encoder's and the projector's, as `weights_of` orders them.

    Raises:
        UserError: if the SavedModel is another's, or has more or fewer variables.
    """
    try:
        loaded = tf.saved_model.load(path)
        found = [*loaded.trainable_variables, *loaded.non_trainable_variables]
    except (OSError, AttributeError, tf.errors.OpError) as error:
        raise UserError(
            "--init_from: expected a SavedModel that --mode=export wrote. Received: "
            f"{path!r} ({_reason(error)}); choose another start, or --saved_model and "
            "--detect_with for a model of another tool."
        ) from error
    own = [v for n in network for v in n.trainable_variables]
    own += [v for n in network for v in n.non_trainable_variables]
    if len(own) != len(found):
        raise UserError(
            f"--init_from: expected a SavedModel of {network.encoder.name} with {len(own)} "
            f"variables. Received: {path!r} with {len(found)}, so of another network "
            f"({misfits(_weights(own), _weights(found))}); give the flags of that network, or "
            "another start."
        )
    place = {id(variable): number for number, variable in enumerate(own)}

    def part(model: keras.Model) -> list[Weight]:
        return [Weight(v.path, found[place[id(v)]].numpy()) for v in model.weights]

    return part(network.encoder), part(network.projector)
