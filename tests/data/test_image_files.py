"""Images of all kinds, read as Keras' own loader reads them, or refused."""

import subprocess
import zlib

import keras
import numpy as np
import pytest

from penjing.data.image_files import read_image, resize
from penjing.data.image_folders import read_image_folder
from penjing.errors import DataError

image_module = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.once

GENERATOR = np.random.default_rng(0)
COLOURS = GENERATOR.integers(0, 256, (12, 10, 4)).astype(np.uint8)
GREYS = GENERATOR.integers(0, 2**16, (12, 10)).astype(np.uint16)


def chunk(kind, data):
    length, check = len(data), zlib.crc32(kind + data)
    return length.to_bytes(4, "big") + kind + data + check.to_bytes(4, "big")


def sixteen_bit_png(values):
    """A PNG of 16-bit grey (1), grey and alpha (2), colours (3) or with alpha (4)."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    lines = values.astype(">u2").reshape(height, -1)
    data = b"".join(b"\0" + line.tobytes() for line in lines)
    sides = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    head = chunk(b"IHDR", sides + bytes([16, kind, 0, 0, 0]))
    body = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


def write_every_kind(folder):
    rgba = image_module.fromarray(COLOURS)
    rgb = rgba.convert("RGB")
    palette = rgb.quantize(16)
    palette.save(folder / "palette.png", transparency=bytes(range(16)))
    palette.save(folder / "palette.gif")
    rgba.save(folder / "transparent.png")
    rgba.convert("LA").save(folder / "grey_alpha.png")
    rgba.convert("1").save(folder / "bits.png")
    rgb.save(folder / "colours.bmp")
    rgb.save(folder / "named.png", format="BMP")  # the ending says nothing
    image_module.fromarray(GREYS).save(folder / "sixteen.png")
    for channels in (2, 3, 4):
        values = np.stack([GREYS, GREYS.T.reshape(12, 10), GREYS[::-1], GREYS], -1)
        content = sixteen_bit_png(values[..., :channels])
        (folder / f"sixteen_{channels}.png").write_bytes(content)
    smooth = rgb.resize((40, 30)).resize((80, 60))
    turned = image_module.Exif()
    turned[274] = 6
    smooth.save(folder / "turned.jpg", exif=turned)
    smooth.convert("CMYK").save(folder / "print.jpg")
    smooth.convert("L").save(folder / "grey.jpg")


@pytest.mark.parametrize("size", [(12, 10), (7, 15)])
def test_every_kind_of_image_is_read_as_keras_reads_it(tmp_path, size):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        write_every_kind(tmp_path / "train" / name)
    (tmp_path / "test").symlink_to(tmp_path / "train")
    batches = keras.utils.image_dataset_from_directory(
        tmp_path / "train", image_size=size, shuffle=False, batch_size=99, verbose=False
    )
    expected, labels = next(iter(batches.as_numpy_iterator()))
    x, y = read_image_folder(tmp_path, (*size, 3))[0]["train"]
    np.testing.assert_array_equal(y, labels)
    names = sorted(path.name for path in (tmp_path / "train" / "a").iterdir())
    for name, ours, keras_gives in zip(2 * names, x, expected, strict=True):
        # Decoders of JPEG may differ by a few levels.
        tolerance = 6.0 if name.endswith("jpg") else 1e-3
        np.testing.assert_allclose(ours, keras_gives, atol=tolerance, err_msg=name)


def test_grey_is_what_keras_makes_of_colours_and_16_bits(tmp_path):
    import tensorflow as tf

    write_every_kind(tmp_path)
    for name in ("palette.png", "transparent.png", "sixteen.png", "sixteen_3.png"):
        content = (tmp_path / name).read_bytes()
        expected = tf.io.decode_image(content, channels=1).numpy()
        actual = read_image(tmp_path / name, (12, 10, 1))
        # Grey of colours is rounded in another place.
        np.testing.assert_allclose(actual, expected.astype(float), atol=1, err_msg=name)


def test_images_below_a_class_folder_belong_to_the_class(tmp_path):
    for place in ("train/cat", "train/cat/more", "train/dog", "test/cat"):
        (tmp_path / place).mkdir(parents=True)
        image_module.new("L", (4, 4), 9).save(tmp_path / place / "0.png")
    _, y = read_image_folder(tmp_path, (4, 4))[0]["train"]
    assert y.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        (np.ones((4, 4), np.float32), {}),
        (np.full((4, 4), 70000, np.int32), {}),
        (np.ones((4, 4), np.uint16), {262: 0}),  # white is zero
    ],
)
def test_pixels_without_a_certain_white_are_refused(tmp_path, values, tags):
    path = tmp_path / "odd.tif"
    image_module.fromarray(values).save(path, tiffinfo=tags)
    with pytest.raises(DataError, match=r"odd\.tif \(it.* save it again, as PNG"):
        read_image(path, (4, 4))


def test_sixteen_bits_of_a_tiff_are_read(tmp_path):
    image_module.fromarray(GREYS).save(tmp_path / "x.tif")
    actual = read_image(tmp_path / "x.tif", (12, 10))
    np.testing.assert_array_equal(actual, GREYS >> 8)


POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
)


@pytest.mark.parametrize("content", [POSTSCRIPT, b"P7\n1 1 255\n", b"\0\0\1\0\1\0" * 9])
def test_formats_that_are_not_named_are_not_opened(tmp_path, monkeypatch, content):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program"))
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=r"Cannot read the image .*x\.png"):
        read_image(tmp_path / "x.png", (4, 4))


def test_resizing_by_hand():
    values = np.array([[[0.0], [8.0]]])
    assert resize(values, 1, 1).ravel().tolist() == [4.0]
    assert resize(values, 2, 4)[1].ravel().tolist() == [0.0, 2.0, 6.0, 8.0]
