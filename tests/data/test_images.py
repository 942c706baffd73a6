"""Pictures of more than 8 bits, and transparent ones, compared with values worked out by hand in NumPy."""

import io
import struct
import zlib

import numpy
import PIL
import pytest
from PIL import Image, ImageCms

from lightvit_lab.data.images import decode
from lightvit_lab.errors import LabError

RAMP = numpy.linspace(0, 1, 32)[None].repeat(32, 0)
BYTES = RAMP * 255


def decoded(picture, kind="PNG", **how):
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return decode([("it", file.getvalue())], 1, 32)[0].numpy().astype(float)


def pgm(most):
    values = numpy.rint(RAMP * most).astype(">u2")
    return b"P5 32 32 %d\n" % most + values.tobytes()


def png(bits, kind, rows, *chunks):
    """A PNG file put together by hand: what Pillow cannot write."""
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    head = struct.pack(">IIBBBBB", 32, 32, bits, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunk(*one) for one in chunks) + (
        chunk(b"IDAT", data) + chunk(b"IEND", b""))


@pytest.mark.parametrize("kind, how", [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
                                       ("TIFF", {"tiffinfo": {274: 3}})])
def test_sixteen_bits_are_scaled_to_eight(kind, how):
    picture = Image.fromarray(numpy.rint(RAMP * 65535).astype(numpy.uint16))
    expected = BYTES[:, ::-1] if how.get("tiffinfo") else BYTES          # turned upside down, as its tag says
    assert abs(decoded(picture, kind, **how) - expected).max() <= 1


@pytest.mark.parametrize("most", [1023, 4095, 65535])
def test_grey_maps_of_more_than_a_byte_are_scaled_by_their_own_white(most):
    assert abs(decode([("it", pgm(most))], 1, 32)[0].numpy() - BYTES).max() <= 1


def test_floats_from_0_to_1_are_scaled():
    assert abs(decoded(Image.fromarray(RAMP.astype(numpy.float32)), "TIFF") - BYTES).max() <= 1


def test_a_tiff_of_twelve_bits_has_its_white_at_4095():
    values = numpy.rint(RAMP * 4095).astype(int).reshape(-1, 2)
    packed = numpy.stack([values[:, 0] >> 4, (values[:, 0] & 15) << 4 | values[:, 1] >> 8, values[:, 1] & 255], 1)
    data = packed.astype(numpy.uint8).tobytes()
    tags = [(256, 3, 1, 32), (257, 3, 1, 32), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
            (277, 3, 1, 1), (278, 3, 1, 32), (279, 4, 1, len(data))]
    file = b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags))
    file += b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    assert abs(decode([("it", file)], 1, 32)[0].numpy() - BYTES).max() <= 1


def test_a_tiff_whose_zero_is_white_is_turned_over():
    file = io.BytesIO()
    Image.fromarray(numpy.rint(RAMP * 65535).astype(numpy.uint16)).save(file, "TIFF")
    content = file.getvalue().replace(struct.pack("<HHIH", 262, 3, 1, 1), struct.pack("<HHIH", 262, 3, 1, 0))
    assert abs(decode([("it", content)], 1, 32)[0].numpy() - BYTES[:, ::-1]).max() <= 1


def test_sixteen_bits_in_colour_keep_their_colours():
    rows = [numpy.stack([row, 65535 - row, row * 0], 1).astype(">u2").tobytes() for row in RAMP * 65535]
    found = decode([("it", png(16, 2, rows))], 1, 32)[0].numpy()
    assert abs(found - numpy.stack([BYTES, 255 - BYTES, BYTES * 0])).max() <= 1


@pytest.mark.parametrize("values", [RAMP.astype(numpy.float32) * 255, (RAMP * (2**31 - 1)).astype(numpy.int32),
                                    (RAMP * 65535).astype(numpy.int32), -RAMP.astype(numpy.float32),
                                    numpy.where(RAMP > 0.5, numpy.nan, RAMP).astype(numpy.float32)])
def test_numbers_whose_white_is_not_told_are_refused_by_name(values):
    with pytest.raises(LabError, match="it is no picture that can be read .*of its numbers, .* none is known as white"):
        decoded(Image.fromarray(values), "TIFF")


def tiff(bits, kind, data, channels=1, extra=None, signed=False):
    """A TIFF file put together by hand: `kind` 0 and 1 are grey, 2 colour; `extra` 1 is alpha that colours were
    multiplied by, 2 alpha that they were not."""
    short = [(256, 32), (257, 32), (259, 1), (262, kind), (277, channels), (278, 32)]
    short += [(338, extra)] * (extra is not None) + [(339, 2)] * signed
    body, start = struct.pack(f"<{channels}H", *[bits] * channels), 8 + len(data)
    depth = (258, 3, channels, start) if channels > 2 else (258, 3, channels, int.from_bytes(body, "little"))
    tags = sorted([*((tag, 3, 1, value) for tag, value in short), depth, (273, 4, 1, 8), (279, 4, 1, len(data))])
    head = b"II*\0" + struct.pack("<I", start + len(body)) + data + body
    return head + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)


def test_signed_bytes_are_refused_since_nobody_tells_which_is_white():
    content = tiff(8, 1, (numpy.rint(BYTES) - 128).astype(numpy.int8).tobytes(), signed=True)
    with pytest.raises(LabError, match="its numbers are signed, and none is known as white"):
        decode([("it", content)], 1, 32)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("multiplied", [True, False])
def test_colours_that_were_multiplied_by_alpha_and_those_that_were_not_lie_on_white(bits, multiplied):
    share = numpy.where(numpy.arange(32) < 16, 1.0, 0.5)[None, :, None].repeat(32, 0)
    colour = numpy.stack([RAMP, 1 - RAMP, RAMP * 0], 2)
    values = numpy.concatenate([colour * share if multiplied else colour, share], 2) * (2**bits - 1)
    content = tiff(bits, 2, numpy.rint(values).astype(f"<u{bits // 8}").tobytes(), 4, 1 if multiplied else 2)
    expected = 255 * (colour * share + 1 - share).transpose(2, 0, 1)
    assert abs(decode([("it", content)], 1, 32)[0].numpy() - expected).max() <= 2


@pytest.mark.parametrize("white", [0, 1])
def test_grey_of_four_bits_is_scaled_and_turned_as_its_file_says(white):
    values = numpy.rint(RAMP * 15).astype(numpy.uint8)
    found = decode([("it", tiff(4, white, (values[:, ::2] << 4 | values[:, 1::2]).tobytes()))], 1, 32)[0].numpy()
    assert (found == (17 * values if white else 255 - 17 * values)).all()


@pytest.mark.parametrize("kind, channels, content", [
    ("P6", 3, lambda values: values.astype(">u2").tobytes()),
    ("P3", 3, lambda values: b" ".join(b"%d" % value for value in values.ravel())),
    ("P2", 1, lambda values: b" ".join(b"%d" % value for value in values.ravel())),
])
def test_maps_in_colour_and_in_text_are_scaled_by_their_own_white(kind, channels, content):
    values = numpy.rint(numpy.stack([RAMP, 1 - RAMP, RAMP * 0], 2)[..., :channels] * 1023).astype(int)
    file = f"{kind} 32 32 1023\n".encode() + content(values)
    assert abs(decode([("it", file)], 1, 32)[0].numpy() - values.transpose(2, 0, 1) / 1023 * 255).max() <= 1


@pytest.mark.parametrize("kind, channels", [(6, 4), (4, 2)])
def test_a_png_of_sixteen_bits_with_alpha_lies_on_white(kind, channels):
    clear = numpy.where(numpy.arange(32) < 16, 65535, 0)[None].repeat(32, 0)
    values = numpy.stack([RAMP * 65535] * (channels - 1) + [clear], 2)
    found = decode([("it", png(16, kind, [row.astype(">u2").tobytes() for row in values]))], 1, 32)[0].numpy()
    assert abs(found - numpy.where(clear > 0, BYTES, 255)).max() <= 1


def bars():
    """Two colours above each other."""
    values = numpy.zeros((32, 32, 3), numpy.uint8)
    values[:16], values[16:] = (200, 60, 30), (30, 120, 220)
    return values


LAB = ImageCms.profileToProfile(Image.fromarray(bars()), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
                                outputMode="LAB")


@pytest.mark.parametrize("picture, kind", [
    (Image.fromarray(bars()).convert("CMYK"), "TIFF"), (Image.fromarray(bars()).convert("CMYK"), "JPEG"),
    (Image.fromarray(bars()).convert("YCbCr"), "TIFF"), (Image.fromarray(bars()).convert("YCbCr"), "JPEG"),
    (LAB, "TIFF"), (Image.fromarray(bars()).convert("RGBX"), "TIFF"), (Image.fromarray(bars()), "BMP"),
    (Image.fromarray(bars()), "GIF"), (Image.fromarray(bars()), "PPM"),
], ids=lambda value: getattr(value, "mode", value))
def test_other_spaces_of_colour_keep_their_colours(picture, kind):
    if picture.mode == "YCbCr" and kind == "TIFF" and PILLOW < (11, 0):
        pytest.skip("this Pillow cannot read what it wrote")
    found = decoded(picture, kind, **({"quality": 100} if kind == "JPEG" else {}))
    assert abs(found - bars().transpose(2, 0, 1))[:, [*range(12), *range(20, 32)]].max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_pictures_of_one_bit_are_black_and_white(kind):
    values = numpy.arange(32)[None].repeat(32, 0) % 3 == 0
    assert (decoded(Image.fromarray(values), kind) == 255 * values).all()


PILLOW = tuple(int(part) for part in PIL.__version__.split(".")[:2])
ALPHA = numpy.full((32, 32), 255, numpy.uint8)
ALPHA[:, 16:], ALPHA[:, 8:16] = 0, 128


def flat(mode):
    """A picture of one dark colour: opaque, half transparent in the middle, transparent on the right."""
    grey = Image.new("L", (32, 32), 40)
    if mode == "PA":
        return flat("RGBA").convert("PA")
    return Image.merge(mode, [grey] * (len(mode) - 1) + [Image.fromarray(ALPHA)])


@pytest.mark.parametrize("mode, kind", [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "TIFF"), ("RGBA", "WEBP"),
                                        ("LA", "TIFF"), ("PA", "TIFF")])
def test_what_is_transparent_lies_on_white(mode, kind):
    picture = flat(mode)
    if not (numpy.asarray(picture.convert("RGBA"))[..., 3] == ALPHA).all():
        pytest.skip(f"this Pillow drops the transparency when it makes {mode}")
    found = decoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {}))
    expected = 40 * (ALPHA / 255) + 255 * (1 - ALPHA / 255)
    assert abs(found - expected).max() <= 1


@pytest.mark.parametrize("clear", [1, bytes([255, 0])])
def test_transparent_entries_of_a_palette_lie_on_white(clear):
    picture = Image.new("P", (32, 32), 0)
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.paste(1, (16, 0, 32, 32))
    found = decoded(picture, "PNG", transparency=clear)
    assert (found[:, :, :16] == numpy.array([10, 20, 30]).reshape(3, 1, 1)).all() and (found[:, :, 16:] == 255).all()


def test_a_gif_with_a_transparent_entry_lies_on_white():
    picture = Image.new("P", (32, 32), 0)
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.paste(1, (16, 0, 32, 32))
    found = decoded(picture, "GIF", transparency=1)
    assert found[0, 0, 0] == 10 and (found[:, :, 16:] == 255).all()


@pytest.mark.parametrize("bits, kind, row, clear, left", [
    (1, 0, bytes([0, 0, 255, 255]), (0,), (255, 255)),                                   # black is transparent
    (2, 0, bytes([0b01010101] * 4 + [0b10101010] * 4), (1,), (255, 170)),
    (4, 0, bytes([0x33] * 8 + [0x55] * 8), (3,), (255, 85)),
    (8, 0, bytes([7] * 16 + [90] * 16), (7,), (255, 90)),
    (16, 0, bytes([1, 2] * 16 + [90, 90] * 16), (258,), (255, 90)),
    (8, 2, bytes([9, 9, 9] * 16 + [90, 90, 90] * 16), (9, 9, 9), (255, 90)),
    (16, 2, bytes([9, 1] * 48 + [90, 90] * 48), (0x901,) * 3, (255, 90)),
])
def test_a_png_whose_one_value_is_transparent_lies_on_white(bits, kind, row, clear, left):
    content = png(bits, kind, [row] * 32, (b"tRNS", struct.pack(f">{len(clear)}H", *clear)))
    found = decode([("it", content)], 1, 32)[0].numpy()
    assert (found[:, :, :16] == left[0]).all() and (found[:, :, 16:] == left[1]).all()
