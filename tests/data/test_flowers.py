import hashlib
import io
import tarfile

import pytest

from lightvit_lab import data
from lightvit_lab.data import flowers
from lightvit_lab.data.download import Remote
from lightvit_lab.errors import LabError

NAMES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


@pytest.fixture
def photographs(picture):
    """Ten photographs of each class: {(class, file name): content}; the red of a picture tells its class."""
    return {(name, f"{number}_{name}.jpg"): picture((40 * label, number, 90), 48, 36, "JPEG")
            for label, name in enumerate(NAMES) for number in range(10)}


def write_tar(path, members, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def archive(photographs, cache, monkeypatch):
    """TensorFlow's archive, with its licence and in no order, in the cache."""
    members = {f"flower_photos/{name}/{file}": content for (name, file), content in reversed(photographs.items())}
    path = cache / "flowers" / "flower_photos.tgz"
    others = {"flower_photos/LICENSE.txt": b"CC BY 2.0", "flower_photos/roses/._0.jpg": b"junk"}
    write_tar(path, {**others, **members}, "w:gz")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(flowers, "ARCHIVE", Remote(path.name, (), digest, path.stat().st_size))
    return path


def unpack(archive, folder):
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (folder / "flower_photos" / "roses" / "._0.jpg").unlink()


def content(split):
    pictures = data.load("flowers", split, image_size=128)
    assert (pictures.pixels[:, 0].float().mean((1, 2)) / 40).round().tolist() == pictures.labels.tolist()
    return sorted((int(label), row.numpy().tobytes()) for row, label in zip(pictures.pixels, pictures.labels))


def test_archive_and_unpacked_archive_give_the_same_pictures_and_parts(archive, tmp_path, monkeypatch):
    packed = {split: content(split) for split in data.SPLITS}
    assert {split: len(found) for split, found in packed.items()} == {"train": 36, "val": 4, "test": 10}
    unpack(archive, tmp_path / "sets")
    monkeypatch.setenv("LIGHTVIT_DATA", str(tmp_path / "sets"))
    assert {split: content(split) for split in data.SPLITS} == packed
    assert data.load("flowers").class_names == NAMES and data.load("flowers").title == "Flowers"


def test_every_class_gives_a_fifth_of_its_pictures_to_the_test_part(archive):
    assert data.load("flowers", "test").labels.bincount().tolist() == [2] * 5


def test_the_copy_keeps_its_own_parts(photographs, tmp_path, monkeypatch):
    folder = tmp_path / "sets" / "flower_photos_128"
    for part, numbers in (("train", range(7)), ("val", range(7, 10))):
        write_tar(folder / f"flower_photos_128_{part}.tar",
                  {f"{part}/{name}/{file}": photographs[name, file] for name, file in photographs
                   if int(file[0]) in numbers})
    monkeypatch.setenv("LIGHTVIT_DATA", str(tmp_path / "sets"))
    assert len(content("test")) == 15 and len(content("train")) + len(content("val")) == 35
    assert data.load("flowers").title == "Flowers (128 px copy)"
    (folder / "flower_photos_128_train.tar").write_bytes((folder / "flower_photos_128_train.tar").read_bytes()[:9000])
    with pytest.raises(LabError, match="flower_photos_128_train.tar.* is no"):
        data.load("flowers")


def test_a_member_of_half_a_gigabyte_is_refused_unread(tmp_path, monkeypatch):
    folder = tmp_path / "sets" / "flower_photos_128"
    folder.mkdir(parents=True)
    member = tarfile.TarInfo("train/daisy/0_daisy.jpg")
    member.size = 2**29
    with (folder / "flower_photos_128_train.tar").open("wb") as file:       # of holes: it takes no room
        file.write(member.tobuf())
        file.truncate(2**29 + 2048)
    monkeypatch.setenv("LIGHTVIT_DATA", str(tmp_path / "sets"))
    write_tar(folder / "flower_photos_128_val.tar", {})
    with pytest.raises(LabError, match="flower_photos_128_train.tar.*536,870,912 bytes, more than the 268,435,456"):
        data.load("flowers")


def test_an_archive_of_another_hash_is_refused(archive):
    archive.write_bytes(archive.read_bytes()[:-10])
    with pytest.raises(LabError, match="is not the published flower_photos.tgz"):
        data.load("flowers")


def test_real_photographs_are_all_there(real_pictures):
    parts = {split: data.load("flowers", split, image_size=16) for split in data.SPLITS}
    assert len(parts["train"]) + len(parts["val"]) == 2934 and len(parts["test"]) == 736
    counts = sum(part.labels.bincount() for part in parts.values())
    assert counts.tolist() == [633, 898, 641, 699, 799]
