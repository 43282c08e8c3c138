"""Decoding of every format that a folder may hold, against Pillow."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ifnd_tf.data.decode import decode_image
from tests.data.conftest import picture


def encoded(mode: str, file_format: str, **options) -> bytes:
    image = Image.fromarray(picture(0))
    if mode == "I;16":
        # 16-bit levels whose upper byte is the 8-bit picture's and whose lower byte is not 0.
        image = Image.fromarray(picture(0)[..., 0].astype(np.uint16) * 256 + 77)
    else:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def frames(file_format: str, **options) -> bytes:
    rest = [Image.fromarray(picture(i)) for i in (1, 2)]
    return encoded("RGB", file_format, save_all=True, append_images=rest, **options)


FILES = {
    "grey JPEG": encoded("L", "JPEG", quality=95),
    "RGB JPEG": encoded("RGB", "JPEG", quality=95),
    "progressive JPEG": encoded("RGB", "JPEG", quality=95, progressive=True),
    "CMYK JPEG": encoded("CMYK", "JPEG", quality=95),
    "grey PNG": encoded("L", "PNG"),
    "black and white PNG": encoded("1", "PNG"),
    "RGB PNG": encoded("RGB", "PNG"),
    "RGBA PNG": encoded("RGBA", "PNG"),
    "grey PNG with alpha": encoded("LA", "PNG"),
    "palette PNG": encoded("P", "PNG"),
    "16-bit PNG": encoded("I;16", "PNG"),
    "RGB BMP": encoded("RGB", "BMP"),
    "RGBA BMP": encoded("RGBA", "BMP"),
    "grey BMP": encoded("L", "BMP"),
    "palette BMP": encoded("P", "BMP"),
    "black and white BMP": encoded("1", "BMP"),
    "GIF": encoded("RGB", "GIF"),
    "animated GIF": frames("GIF"),
    "WebP": encoded("RGB", "WEBP", lossless=True),
    "lossy WebP": encoded("RGB", "WEBP", quality=95),
    "WebP with alpha": encoded("RGBA", "WEBP", lossless=True),
    "animated WebP": frames("WEBP", lossless=True),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_format_decodes_as_pillow_does(kind):
    decoded = decode_image(tf.constant(FILES[kind]), python_fallback=True).numpy()
    if kind == "16-bit PNG":
        expected = np.repeat(picture(0)[..., :1], 3, axis=-1)
    else:
        expected = np.asarray(Image.open(io.BytesIO(FILES[kind])).convert("RGB"))
    assert decoded.dtype == np.uint8
    # JPEG's inverse transforms and lossy WebP's colour conversion differ by a few levels.
    tolerance = 4 if "JPEG" in kind or "lossy" in kind else 0
    assert np.abs(decoded.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("kind", ["RGB JPEG", "RGB PNG", "RGB BMP", "animated GIF", "WebP"])
def test_the_graph_alone_decodes_what_an_exported_model_needs(kind):
    traced = tf.function(decode_image, input_signature=[tf.TensorSpec([], tf.string)])
    with_fallback = decode_image(tf.constant(FILES[kind]), python_fallback=True)
    np.testing.assert_array_equal(traced(FILES[kind]), with_fallback)
    operations = {op.type for op in traced.get_concrete_function().graph.get_operations()}
    assert not {"PyFunc", "EagerPyFunc", "PyFuncStateless"} & operations


@pytest.mark.parametrize("kind", ["RGB JPEG", "RGB PNG", "RGB BMP", "GIF", "palette BMP", "WebP"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6])
def test_files_that_are_cut_off_are_refused(kind, share):
    contents = FILES[kind][: int(len(FILES[kind]) * share)]
    with pytest.raises((tf.errors.OpError, ValueError)):
        decode_image(tf.constant(contents), python_fallback=True)
