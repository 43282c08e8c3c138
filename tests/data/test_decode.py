"""Decoding of every format that a folder may hold, against Pillow, in training and in export."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from ifnd_tf.data.decode import DECODING, Decoding, decode_image
from ifnd_tf.data.image_formats import format_of, unreadable_reason
from tests.data.conftest import picture

pytestmark = pytest.mark.cases

ALPHA = np.uint8(np.random.default_rng(0).integers(0, 2, [20, 24]) * [[0, 100, 255] * 8])
RGBA = Image.fromarray(np.dstack([picture(0), ALPHA]))
ROTATED = Image.Exif()
ROTATED[274] = 6


def encoded(mode: str, file_format: str, **options) -> bytes:
    image = RGBA if "A" in mode else Image.fromarray(picture(0))
    if mode == "I;16":
        # 16-bit levels from 1,000 to 3,000.
        levels = picture(0)[..., 0].astype(np.uint16)
        image = Image.fromarray(1000 + levels * 8)
    elif mode == "F":
        image = Image.fromarray(picture(0)[..., 0] / np.float32(255))
    else:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def frames(file_format: str, **options) -> bytes:
    rest = [Image.fromarray(picture(i)) for i in (1, 2)]
    return encoded("RGB", file_format, save_all=True, append_images=rest, **options)


def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    return encoded("RGB", "HEIF", quality=95)


# Kind: contents, and whether an exported model reads them too; it refuses the others.
FILES = {
    "grey JPEG": (encoded("L", "JPEG", quality=95), True),
    "RGB JPEG": (encoded("RGB", "JPEG", quality=95), True),
    "progressive JPEG": (encoded("RGB", "JPEG", quality=95, progressive=True), True),
    "CMYK JPEG": (encoded("CMYK", "JPEG", quality=95), True),
    "rotated JPEG": (encoded("RGB", "JPEG", quality=95, exif=ROTATED), True),
    "grey PNG": (encoded("L", "PNG"), True),
    "black and white PNG": (encoded("1", "PNG"), True),
    "RGB PNG": (encoded("RGB", "PNG"), True),
    "RGBA PNG": (encoded("RGBA", "PNG"), True),
    "rotated PNG": (encoded("RGB", "PNG", exif=ROTATED), True),
    "grey PNG with alpha": (encoded("LA", "PNG"), True),
    "palette PNG": (encoded("P", "PNG"), True),
    "transparent palette PNG": (encoded("P", "PNG", transparency=3), True),
    "16-bit PNG": (encoded("I;16", "PNG"), True),
    "RGB BMP": (encoded("RGB", "BMP"), True),
    "RGBA BMP": (encoded("RGBA", "BMP"), False),
    "grey BMP": (encoded("L", "BMP"), False),
    "palette BMP": (encoded("P", "BMP"), False),
    "black and white BMP": (encoded("1", "BMP"), False),
    "GIF": (encoded("RGB", "GIF"), True),
    "animated GIF": (frames("GIF"), True),
    "transparent GIF": (encoded("RGBA", "GIF"), False),
    "WebP": (encoded("RGB", "WEBP", lossless=True), True),
    "lossy WebP": (encoded("RGB", "WEBP", quality=95), True),
    "WebP with alpha": (encoded("RGBA", "WEBP", lossless=True), False),
    "rotated WebP": (encoded("RGB", "WEBP", lossless=True, exif=ROTATED), False),
    "animated WebP": (frames("WEBP", lossless=True), False),
    "TIFF": (encoded("RGB", "TIFF"), False),
    "rotated TIFF": (encoded("RGB", "TIFF", exif=ROTATED), False),
    "RGBA TIFF": (encoded("RGBA", "TIFF"), False),
    "CMYK TIFF": (encoded("CMYK", "TIFF"), False),
    "16-bit TIFF": (encoded("I;16", "TIFF"), False),
    "floating-point TIFF": (encoded("F", "TIFF"), False),
    "AVIF": (encoded("RGB", "AVIF", quality=90), False),
    "JPEG 2000": (encoded("RGB", "JPEG2000"), False),
}


def truth(contents: bytes) -> np.ndarray:
    """Pixels by Pillow alone: upright, on white, stretched to the range of 8 bits."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))
    if image.mode[0] in "IF":
        levels = np.asarray(image, np.float64)
        levels = (levels - levels.min()) / np.ptp(levels) * 255
        return np.repeat(np.uint8(levels + 0.5)[..., None], 3, axis=-1)
    pixels = np.asarray(image.convert("RGBA"), np.float64)
    alpha = pixels[..., 3:] / 255
    return np.uint8(pixels[..., :3] * alpha + 255 * (1 - alpha) + 0.5)


def difference(found, expected) -> int:
    assert found.shape == expected.shape
    return np.abs(np.asarray(found, int) - np.asarray(expected, int)).max()


@pytest.mark.parametrize("kind", FILES)
def test_every_format_is_upright_and_composited_in_training(kind):
    contents, _ = FILES[kind]
    decoded = decode_image(tf.constant(contents), python_fallback=True).numpy()
    assert decoded.dtype == np.uint8
    # JPEG's inverse transforms and lossy WebP's colour conversion differ by a few levels.
    tolerance = 4 if "JPEG" in kind or "lossy" in kind else int("floating" in kind)
    assert difference(decoded, truth(contents)) <= tolerance


@pytest.fixture(scope="module")
def exported():
    """The decoder of an exported model: graph operations alone."""
    traced = tf.function(
        decode_image, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
    )
    operations = {op.type for op in traced.get_concrete_function().graph.get_operations()}
    assert not {"PyFunc", "EagerPyFunc", "PyFuncStateless"} & operations
    return traced


def test_an_exported_model_reads_the_same_pixels_or_refuses(exported):
    # One test of all: setting the seeds, before each test, makes TensorFlow optimise anew.
    for kind, (contents, reads) in FILES.items():
        if not reads:
            with pytest.raises(tf.errors.InvalidArgumentError, match="Expected a JPEG, a PNG, or"):
                exported(contents)
            continue
        trained_on = decode_image(tf.constant(contents), python_fallback=True)
        assert difference(exported(contents), trained_on) == 0, kind


def test_heic_is_read_through_its_plugin(exported):
    contents = heic()
    decoded = decode_image(tf.constant(contents), python_fallback=True)
    assert difference(decoded, picture(0)) < 60  # lossy in colour
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected a JPEG"):
        exported(contents)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_orientation_is_turned_upright(file_format, orientation, order):
    exif = Image.Exif()
    exif.endian = order
    exif[271], exif[274], exif[305] = "maker", orientation, "software"
    contents = encoded("RGB", file_format, exif=exif.tobytes(), comment="a", quality=95)
    found = decode_image(tf.constant(contents))
    assert difference(found, truth(contents)) <= 4


def test_damaged_exif_data_is_no_orientation():
    exif = ROTATED.tobytes()
    for place in range(6, len(exif)):
        damaged = exif[:place] + b"\xff" * 4 + exif[place + 4 :]
        contents = encoded("RGB", "JPEG", exif=damaged)
        assert decode_image(tf.constant(contents)).shape in ((20, 24, 3), (24, 20, 3))


def test_a_chunk_of_any_length_is_walked_past():
    png = FILES["rotated PNG"][0]
    place = png.index(b"eXIf") - 4
    longer = png[:place] + b"\xff\xff\xff\xff" + b"junk" + png[place:]
    with pytest.raises(tf.errors.InvalidArgumentError):  # of the decoder, which wants real chunks
        decode_image(tf.constant(longer))


def test_the_settings_choose_background_and_levels():
    black = Decoding(background=0)
    contents = FILES["RGBA PNG"][0]
    on_black = decode_image(tf.constant(contents), black).numpy()
    assert (on_black[ALPHA == 0] == 0).all()
    assert (decode_image(tf.constant(contents)).numpy()[ALPHA == 0] == 255).all()
    by_byte = Decoding(sixteen_bits="high_byte")
    expected = np.repeat(np.uint8((1000 + picture(0)[..., :1].astype(int) * 8) // 256), 3, -1)
    for kind in ("16-bit PNG", "16-bit TIFF"):
        found = decode_image(tf.constant(FILES[kind][0]), by_byte, python_fallback=True)
        assert difference(found, expected) == 0


@pytest.mark.parametrize("kind", ["RGB JPEG", "RGB PNG", "RGB BMP", "GIF", "WebP", "TIFF"])
def test_more_pixels_than_the_limit_are_refused(kind):
    few = Decoding(max_pixels=479)
    with pytest.raises((tf.errors.OpError, ValueError), match="megapixels .--max_megapixels"):
        decode_image(tf.constant(FILES[kind][0]), few, python_fallback=True)
    enough = DECODING._replace(max_pixels=480)
    assert decode_image(tf.constant(FILES[kind][0]), enough, python_fallback=True).shape[0] == 20


@pytest.mark.parametrize(
    "contents, reason",
    [
        (b"", "empty file"),
        (b"\xff\xd8\xff\xe0", "truncated JPEG: 4 bytes"),
        (
            b"hello, this is text and no image",
            "no image that is read here: begins with b'hello, t'",
        ),
        (FILES["RGB PNG"][0], ""),
    ],
)
def test_the_reason_of_an_unreadable_file_is_in_plain_words(contents, reason):
    assert unreadable_reason(contents) == reason


def test_formats_are_known_by_their_first_bytes():
    for kind, (contents, _) in FILES.items():
        assert format_of(contents) and format_of(contents) in kind.replace("J2K", "JPEG 2000")
    assert format_of(heic()) == "HEIC"


@pytest.mark.parametrize(
    "kind", ["RGB JPEG", "RGB PNG", "RGB BMP", "GIF", "palette BMP", "WebP", "TIFF", "AVIF"]
)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6])
def test_files_that_are_cut_off_are_refused(kind, share):
    whole = FILES[kind][0]
    contents = whole[: int(len(whole) * share)]
    with pytest.raises((tf.errors.OpError, ValueError)):
        decode_image(tf.constant(contents), python_fallback=True)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Uint8 noise whose amplitude falls with the frequency, as in photographs."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    frequency[0, 0] = 1.0
    channels = [
        np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) / frequency).real
        for _ in range(3)
    ]
    waves = np.stack(
        [channels[0], channels[0] + 0.3 * channels[1], channels[0] + 0.3 * channels[2]], -1
    )
    return np.uint8(np.clip(waves / waves.std() * 50 + 128, 0, 255))


def means(image: np.ndarray, by: int) -> np.ndarray:
    height, width = (side // by * by for side in image.shape[:2])
    squares = image[:height, :width].reshape(height // by, by, width // by, by, 3)
    return squares.mean(axis=(1, 3))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize(
    ("sides", "by"),
    [((79, 500), 1), ((80, 100), 2), ((230, 163), 4), ((320, 400), 8), ((900, 700), 16)],
)
def test_large_images_are_reduced_to_what_the_views_need(file_format, sides, by):
    image, buffer = photo(*sides), io.BytesIO()
    options = {"quality": 95, "subsampling": 0} if file_format == "JPEG" else {}
    Image.fromarray(image).save(buffer, file_format, **options)
    # A short side of 2.5 x 16 = 40 is left.
    found = decode_image(buffer.getvalue(), view_size=16, python_fallback=True).numpy()
    expected = means(image, by)
    if file_format == "JPEG":  # rounds sides up, and sees half of each pixel's square of colours
        first = min(by, 8)
        assert found.shape == (*(-(-side // first) * first // by for side in sides), 3)
        found = found[: len(expected), : expected.shape[1]]
        assert np.abs(found - expected).mean() < 0.5 + 3.5 / by
    else:
        np.testing.assert_allclose(found, expected, atol=0.51)


@pytest.mark.parametrize(
    "options", [{"view_size": 0}, {"view_size": 4, "decoding": Decoding(margin=0)}]
)
def test_images_are_decoded_in_full_where_they_shall(options):
    contents = FILES["RGB JPEG"][0]
    assert decode_image(contents, **options).shape == (20, 24, 3)
    assert decode_image(contents, view_size=4).shape == (10, 12, 3)


def test_a_reduced_image_is_upright():
    image = decode_image(FILES["rotated JPEG"][0], view_size=4)
    whole = decode_image(FILES["rotated JPEG"][0]).numpy()
    assert image.shape == (12, 10, 3)
    np.testing.assert_allclose(image, means(whole, 2), atol=12)
