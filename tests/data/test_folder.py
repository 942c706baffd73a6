import io
import shutil
import struct
import subprocess
import unicodedata
import warnings
import zlib

import pytest
import torch
from PIL import Image

from lightvit_lab import data
from lightvit_lab.data import folder, images
from lightvit_lab.errors import LabError


def test_classes_come_from_the_folder_names_and_colours_stay_with_their_class(pets):
    train, test = data.load(pets, image_size=8), data.load(str(pets), "test", image_size=8)
    assert train.class_names == ("cat", "dog") and train.name == "pets" and (len(train), len(test)) == (11, 4)
    for pictures in (train, test):
        red = pictures.pixels[:, 0].float().mean((1, 2)) > pictures.pixels[:, 2].float().mean((1, 2))
        assert torch.equal(red, pictures.labels == 0)


def test_the_shorter_side_is_resized_and_the_centre_cut_out(pets):
    wide = Image.new("RGB", (64, 32), (0, 0, 0))
    wide.paste((255, 255, 255), (16, 0, 48, 32))            # the middle square is white, the sides are black
    for file in pets.rglob("*.png"):
        wide.save(file)
    inner = data.load(pets, image_size=16).pixels[:, :, :, 1:-1]        # a resized edge takes a little from beyond it
    assert inner.min() == 255


def test_pictures_are_turned_upright_as_their_camera_says(pets):
    exif = Image.Exif()
    exif[0x0112] = 3                                        # orientation: upside down
    half = Image.new("RGB", (32, 32), (255, 255, 255))
    half.paste((0, 0, 0), (0, 0, 32, 16))
    for file in pets.rglob("*.png"):
        half.save(file, exif=exif)
    pixels = data.load(pets, image_size=32).pixels
    assert pixels[:, :, :16].min() == 255 and pixels[:, :, 16:].max() == 0


def test_val_is_the_test_part_where_there_is_no_test(pets):
    (pets / "test").rename(pets / "val")
    assert len(data.load(pets, "test", image_size=8)) == 4


@pytest.mark.parametrize("layout", ["only train", "classes in the folder itself"])
def test_a_fifth_of_each_class_is_the_test_part_where_there_is_none(pets, layout, picture):
    shutil.rmtree(pets / "test")
    for number in range(6, 10):
        (pets / "train" / "dog" / f"{number}.png").write_bytes(picture())
    folder = pets if layout == "only train" else pets / "train"
    assert data.load(folder, "test", image_size=8).labels.bincount().tolist() == [1, 2]
    assert len(data.load(folder, image_size=8)) == 12                # 13 left, one of them is val


def test_a_new_picture_is_seen_without_a_restart(pets, picture):
    assert len(data.load(pets, "test", image_size=8)) == 4
    (pets / "test" / "cat" / "new.png").write_bytes(picture())
    assert len(data.load(pets, "test", image_size=8)) == 5


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_zeros(width: int, height: int, rows: int | None = None) -> bytes:
    """A black PNG of any size, in about a thousandth of its pixels; of a cut one only the first `rows`."""
    rows = zlib.compress(bytes((rows or height) * (1 + width // 8)), 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("width, height", [(13_312, 13_312), (8_200, 8_200), (2**26 + 8, 1), (30_000, 30_000)])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(monkeypatch, width, height):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("unpacked"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("unpacked"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # Pillow's own, of pictures that are large and not yet refused
        with pytest.raises(LabError, match="own.png is no picture that can be read .*pixels.*delete it"):
            images.decode([("own.png", png_of_zeros(width, height, rows=1))], 1, 8)


def test_a_large_picture_within_the_bound_and_a_large_jpeg_are_read():
    assert images.decode([("own.png", png_of_zeros(4_096, 4_096))], 1, 8).max() == 0
    file = io.BytesIO()
    Image.new("L", (9_000, 8_000), 250).save(file, "JPEG")          # beyond the bound, but unpacked at an eighth
    assert (images.decode([("own.jpg", file.getvalue())], 1, 8) == 250).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_pictures_of_every_kind_that_folders_may_hold_are_read(picture, kind):
    pixels = images.decode([("one", picture((250, 0, 0), kind=kind))], 1, 8)
    assert (pixels[0, 0] > 240).all() and (pixels[0, 1:] < 10).all()


def test_a_file_that_would_start_another_program_is_no_picture(monkeypatch, picture):
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **how: pytest.fail("started Ghostscript"))
    with pytest.raises(LabError, match="one.jpg is no picture that can be read"):
        images.decode([("one.jpg", content)], 1, 8)


def test_a_file_of_a_terabyte_and_one_that_is_deleted_under_way_are_named(pets, monkeypatch):
    path = pets / "train" / "cat" / "2.png"
    with path.open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(LabError, match="cat/2.png cannot be read .it has 1,099,511,627,776 bytes"):
        data.load(pets, image_size=8)
    source = folder.find(pets, 8)
    path.unlink()
    with pytest.raises(LabError, match="cat/2.png cannot be read .there is no file"):
        source.read()


def test_a_corrupt_picture_is_named(pets):
    whole = pets / "train" / "dog" / "3.png"
    whole.write_bytes(whole.read_bytes()[:60])
    with pytest.raises(LabError, match="pets/train/dog/3.png is no picture that can be read.*delete it"):
        data.load(pets)


@pytest.mark.parametrize("spoil, words", [
    (lambda pets: [file.unlink() for file in (pets / "train" / "dog").iterdir()], "no pictures .*in dog of .*train"),
    (lambda pets: shutil.rmtree(pets / "train" / "dog"), "only the class folder cat.*at least two classes"),
    (lambda pets: shutil.rmtree(pets / "test" / "dog"), "only the class folder cat"),
    (lambda pets: (pets / "test" / "dog").rename(pets / "test" / "wolf"), "dog, wolf of .* in only one of train and"),
    (lambda pets: [shutil.rmtree(pets / part) for part in ("train", "test")], "no class folders; lay it out as"),
])
def test_empty_folders_empty_classes_and_single_classes_are_refused_by_name(pets, spoil, words):
    spoil(pets)
    with pytest.raises(LabError, match=words):
        data.load(pets)


def test_a_class_of_one_picture_cannot_be_split(pets):
    shutil.rmtree(pets / "test")
    for number in range(1, 6):
        (pets / "train" / "cat" / f"{number}.png").unlink()
    with pytest.raises(LabError, match="class cat has one picture"):
        data.load(pets)


def test_too_few_pictures_for_a_val_split_are_said(pets):
    for number in range(4):
        for name in ("cat", "dog"):
            (pets / "train" / name / f"{number}.png").unlink()
    with pytest.raises(LabError, match="has 4 training pictures, too few"):
        data.load(pets, "val")


def test_a_page_can_train_on_a_folder_and_a_wrong_path_is_shown_resolved(pets, monkeypatch):
    monkeypatch.setenv("LIGHTVIT_DATASET", str(pets))
    assert data.chosen() == str(pets)
    monkeypatch.setenv("LIGHTVIT_DATASET", str(pets / "nowhere"))
    with pytest.raises(LabError, match="nowhere' is no folder .resolved: .*/pets/nowhere.; give the path of a folder"):
        data.chosen()
    with pytest.raises(LabError, match="is no folder"):
        data.load("~/no such folder of pictures")


def left_out(pets, **how):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pictures = data.load(pets, image_size=8, **how)
    return pictures, [str(one.message) for one in caught]


def test_pictures_in_folders_of_a_class_are_used_however_deep(pets, picture):
    for place in ("sub", "sub/deeper"):
        (pets / "train" / "cat" / place).mkdir()
        for number in range(5):
            (pets / "train" / "cat" / place / f"{number}.png").write_bytes(picture((250, 0, 0)))
    pictures, said = left_out(pets)
    assert len(pictures) == 20 and pictures.labels.bincount().tolist()[0] >= 13 and not said   # 22, two are val
    assert torch.equal(pictures.pixels[:, 0].float().mean((1, 2)) > 128, pictures.labels == 0)


def test_a_picture_moved_to_another_class_is_seen_without_a_restart(pets):
    for name in ("cat", "dog"):
        (pets / "test" / name / "sub").mkdir()
    moved = pets / "test" / "cat" / "sub" / "a.png"
    (pets / "test" / "cat" / "0.png").rename(moved)
    before = data.load(pets, "test", image_size=8).labels.bincount().tolist()
    moved.rename(pets / "test" / "dog" / "sub" / "a.png")
    assert (before, data.load(pets, "test", image_size=8).labels.bincount().tolist()) == ([2, 2], [1, 3])


@pytest.mark.parametrize("place, count, reason", [
    ("train/cat/notes.txt", 1, "of another ending"), ("train/cat/sub/a.heic", 1, "of another ending"),
    ("train/cat/.a.png", 1, "hidden"), (".git/config", 1, "beside train and test"),
    ("train/.cache/a.png", 1, "hidden"), ("train/a.png", 1, "beside the class folders"),
    ("val/cat/a.png", 1, "beside train and test"), ("a.png", 1, "beside train and test"),
    ("test/dog/no ending", 1, "of another ending"),
])
def test_what_is_left_out_is_counted_with_its_reason(pets, picture, place, count, reason):
    (pets / place).parent.mkdir(parents=True, exist_ok=True)
    (pets / place).write_bytes(picture())
    pictures, said = left_out(pets)
    assert len(pictures) == 11 and len(said) == 1
    assert f"{count} file in" in said[0] and reason in said[0] and place in said[0]


def test_links_are_followed_and_those_that_lead_nowhere_or_back_are_counted(pets):
    cats = pets / "train" / "cat"
    (cats / "linked.png").symlink_to(pets / "test" / "cat" / "0.png")
    (cats / "more").symlink_to(pets / "test" / "cat")
    (cats / "gone.png").symlink_to(pets / "nowhere.png")
    (cats / "loop").symlink_to(cats)
    pictures, said = left_out(pets)
    assert len(pictures) == 12 + 3 - 1                                       # a tenth is val
    assert "2 files" in said[0] and "a link to nothing" in said[0] and "a link back" in said[0]


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "validation"), ("test", "val")])
def test_parts_of_other_names_are_not_taken_for_classes(pets, names):
    for old, new in zip(("train", "test"), names):
        (pets / old).rename(pets / f"{new}_")
    for new in names:
        (pets / f"{new}_").rename(pets / new)
    with pytest.raises(LabError, match="would be taken for a class"):
        data.load(pets, image_size=8)


def test_class_names_in_two_unicode_forms_are_one_class(pets):
    for split, form in (("train", "NFC"), ("test", "NFD")):
        (pets / split / "cat").rename(pets / split / unicodedata.normalize(form, "châton"))
        (pets / split / "dog").rename(pets / split / unicodedata.normalize(form, "개"))
    train, test = data.load(pets, image_size=8), data.load(pets, "test", image_size=8)
    assert train.class_names == test.class_names == tuple(unicodedata.normalize("NFC", name) for name in ("châton", "개"))
    assert test.labels.bincount().tolist() == [2, 2]


def test_one_class_in_two_unicode_forms_in_one_part_is_joined(pets):
    (pets / "train" / "cat").rename(pets / "train" / unicodedata.normalize("NFC", "é"))
    (pets / "test" / "cat").rename(pets / "test" / unicodedata.normalize("NFD", "é"))
    other = pets / "train" / unicodedata.normalize("NFD", "é")
    other.mkdir()
    (pets / "train" / unicodedata.normalize("NFC", "é") / "0.png").rename(other / "0.png")
    pictures = data.load(pets, image_size=8)
    assert len(pictures) == 11 and len(pictures.class_names) == 2


def test_the_same_pictures_come_in_the_same_order_in_both_unicode_forms(tmp_path, picture):
    """é in one letter sorts behind z, in two before f; which pictures are val, or test, must not hang on it."""
    names = [f"{letter}{number}" for letter in "aéfz" for number in range(4)]
    found = []
    for form in ("NFC", "NFD"):
        for kind, colour in (("cat", 0), ("dog", 1)):
            (tmp_path / form / kind).mkdir(parents=True)
            for place, name in enumerate(names):
                path = tmp_path / form / kind / f"{unicodedata.normalize(form, name)}.png"
                path.write_bytes(picture((10 * place, 200 * colour, 0)))
        found.append([data.load(tmp_path / form, split, image_size=8).pixels for split in ("train", "val", "test")])
    assert all(torch.equal(one, other) for one, other in zip(*found))


@pytest.mark.parametrize("place", ["val", "train/.hidden"])
def test_links_to_folders_of_pictures_are_counted_where_they_are_left_out(pets, place):
    (pets / place).mkdir()
    for name in ("cat", "dog"):
        (pets / place / name).symlink_to(pets / "test" / name)
    pictures, said = left_out(pets)
    assert len(pictures) == 11 and len(said) == 1 and "2 files in" in said[0] and f"{place}/cat" in said[0]


def test_a_folder_that_cannot_be_listed_is_refused_and_not_left_out(pets, monkeypatch):
    real = folder.Path.iterdir

    def closed(path):
        if path.name == "sub":
            raise PermissionError(13, "Permission denied")
        return real(path)

    (pets / "train" / "cat" / "sub").mkdir()
    monkeypatch.setattr(folder.Path, "iterdir", closed)
    with pytest.raises(LabError, match="train/cat/sub cannot be listed .*Permission denied.*let this user read it"):
        data.load(pets, image_size=8)
