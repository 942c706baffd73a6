import dataclasses
import hashlib
import json
import math

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lightvit_lab import data, training
from lightvit_lab.distillation import StoredLogits, distill, store_logits
from lightvit_lab.distillation.response_distillation import stored_logits
from lightvit_lab.distillation.response_distillation.objectives import Labels, SoftTargets, soft_target_loss
from lightvit_lab.distillation.response_distillation.stored_logits import _pack
from lightvit_lab.errors import LabError
from lightvit_lab.training.augment import Batches

VIEWS = ("crop", "flip", "mixup")
RUN = {"steps": 7, "batch_size": 16, "seed": 3, "augment": VIEWS}      # 112 views of 50 pictures: over two epochs
QUICK = {"threads": 1, "precision": "float32", "progress": False, "lr": 5e-3}
STORE = {**RUN, "progress": False, "teacher_precision": "float32"}


def pictures(count: int = 50, shade: int = 80) -> data.Pictures:
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 80, (count, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    pixels = (noise + shade * labels.view(-1, 1, 1, 1)).byte()
    return data.Pictures("made up", "train", pixels, labels, tuple("abc"), torch.full((3,), 0.5), torch.full((3,), 0.3))


class Net(nn.Sequential):
    """A small model that counts how often it ran."""

    def __init__(self, seed: int = 0, classes: int = 3):
        torch.manual_seed(seed)
        super().__init__(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, classes))
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return 5 * super().forward(inputs)


def learn(teacher: nn.Module | StoredLogits, pictures_too: data.Pictures | None = None, **changes) -> training.History:
    return distill(Net(1), teacher, pictures_too or pictures(), {"labels": Labels(), "soft": SoftTargets(2.0)},
                   **QUICK, **{**RUN, **changes})


@pytest.fixture
def stored(tmp_path) -> StoredLogits:
    return store_logits(Net().eval(), pictures(), tmp_path / "said", **STORE)


def test_a_student_learns_from_the_file_what_it_learns_from_the_teacher_beside_it(stored):
    live = distill(Net(1), Net().eval(), pictures(), {"labels": Labels(), "soft": SoftTargets(2.0)},
                   teacher_precision="float32", **QUICK, **RUN)
    read = learn(stored)
    assert read.terms["soft"] == pytest.approx(live.terms["soft"], rel=2e-3)
    assert read.loss == pytest.approx(live.loss, rel=1e-3) and len(set(live.terms["soft"])) == 7
    assert learn(Net(2).eval()).terms["soft"] != pytest.approx(live.terms["soft"], rel=0.05)   # another teacher is seen


def test_the_teacher_runs_once_for_any_number_of_students(tmp_path):
    teacher = Net().eval()
    first = store_logits(teacher, pictures(), tmp_path / "said", **STORE)
    ran = teacher.calls
    again = store_logits(teacher, pictures(), tmp_path / "said", **STORE)
    learn(again)
    learn(again)
    assert 7 <= ran <= 8 and teacher.calls == ran and again.identity == first.identity


def test_each_row_is_what_the_teacher_says_of_the_view_that_the_student_sees(stored):
    teacher, batches = Net().eval(), Batches(pictures(), 16, 3, VIEWS, torch.device("cpu"))
    for step in (1, 4, 7):      # step 4 spans two epochs
        batch = batches(step)
        with torch.no_grad():
            said = teacher(batch.inputs).softmax(1)
        assert (stored.outputs(batch).logits.softmax(1) - said).abs().max() < 1e-3
        assert (stored.outputs(batches(step % 7 + 1)).logits.softmax(1) - said).abs().max() > 0.01


@pytest.mark.parametrize("rank", [0, 1])
def test_each_of_two_processes_reads_its_own_rows(stored, rank):
    whole = stored.outputs(Batches(pictures(), 16, 3, VIEWS, torch.device("cpu"))(2)).logits
    own = stored.outputs(Batches(pictures(), 16, 3, VIEWS, torch.device("cpu"), rank, 2)(2)).logits
    assert torch.equal(own, whole[8 * rank : 8 * rank + 8])


@pytest.mark.parametrize("classes, kind", [(12, torch.uint8), (256, torch.uint8), (257, torch.int16),
                                           (40_000, torch.int32)])
def test_the_kept_probabilities_stay_as_they_were_and_the_others_share_the_rest(tmp_path, classes, kind):
    logits = 3 * torch.randn(4, classes, generator=torch.Generator().manual_seed(0))
    packed = _pack(logits, 3, 1)
    assert packed["indices"].dtype == kind and packed["values"].dtype == torch.float16
    found = unpacked(tmp_path / "said", packed, classes).softmax(1)
    said, order = logits.softmax(1), logits.argsort(1, descending=True)
    assert torch.allclose(found.gather(1, order[:, :3]), said.gather(1, order[:, :3]), rtol=5e-3)
    rest = (1 - said.gather(1, order[:, :3]).sum(1, keepdim=True)) / (classes - 3)
    assert torch.allclose(found.gather(1, order[:, 3:]), rest.expand(-1, classes - 3), rtol=1e-2)


def unpacked(path, packed: dict[str, Tensor], classes: int) -> Tensor:
    rows = len(packed["values"])
    run = {"pictures": "none", "seed": 0, "augment": [], "order": "none", "steps": 1, "teacher": "made up"}
    stored_logits._write(path, {**run, "num_classes": classes, "batch_size": rows}, packed)
    batch = training.Batch(torch.zeros(rows, 3, 1, 1), torch.zeros(rows), torch.arange(rows), step=1,
                           places=torch.arange(rows))
    return StoredLogits(path).outputs(batch).logits


def test_a_class_that_the_teacher_rules_out_is_no_infinity(tmp_path):
    found = unpacked(tmp_path / "said", _pack(torch.tensor([[0.0, -1e6, -3e5]]), None, 1), 3)
    assert torch.isfinite(found).all() and found.softmax(1).tolist() == [[1, 0, 0]]
    assert torch.isfinite(soft_target_loss(torch.zeros(1, 3), found, 4.0))


def test_ten_classes_of_small_photographs_take_less_than_a_fiftieth_of_the_pictures(tmp_path):
    photographs = dataclasses.replace(pictures(400), pixels=torch.zeros(400, 3, 32, 32, dtype=torch.uint8))
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).eval()
    found = store_logits(teacher, photographs, tmp_path / "said", epochs=2, batch_size=100, progress=False)
    assert found.made_for["steps"] == 8 and found.nbytes == (tmp_path / "said").stat().st_size
    assert 800 * 10 * 2 <= found.nbytes < 0.02 * 2 * photographs.pixels.nbytes


@pytest.mark.parametrize("changes, message", [
    ({"seed": 4}, "seed is 3 there and 4 here"),
    ({"batch_size": 8}, "batch_size is 16 there and 8 here"),
    ({"augment": ("flip",)}, "augment is .'crop', 'flip', 'mixup'. there and .'flip'. here"),
    ({"steps": 8}, "7 steps are stored, and the run takes 8"),
    ({"steps": None, "epochs": 3}, "7 steps are stored, and the run takes 10"),
])
def test_the_logits_of_another_run_are_refused_by_what_differs(stored, changes, message):
    with pytest.raises(LabError, match=f"holds logits for another run: {message}. Give distill the settings"):
        learn(stored, **changes)


def test_the_logits_of_another_set_are_refused(stored):
    for other in (pictures(shade=60), pictures(51)):
        with pytest.raises(LabError, match=r"another run: pictures is [0-9a-f]{8}\.\.\. there"):
            learn(stored, other)


def test_the_logits_of_the_same_pictures_in_another_order_are_refused(stored):
    order = torch.arange(50).flip(0)
    turned = dataclasses.replace(pictures(), pixels=pictures().pixels[order], labels=pictures().labels[order])
    with pytest.raises(LabError, match="another run: pictures is"):
        learn(stored, turned)


@pytest.mark.parametrize("name", ["batch_order", "generator_for"])
def test_a_torch_that_draws_other_numbers_is_noticed(stored, monkeypatch, name):
    before = getattr(stored_logits, name)
    turned = {"batch_order": lambda *given: before(*given).flip(0),
              "generator_for": lambda seed, *given: before(seed + 1, *given)}
    monkeypatch.setattr(stored_logits, name, turned[name])
    with pytest.raises(LabError, match="another run: order is"):
        learn(stored)


def test_fewer_steps_and_the_same_augmentation_in_other_words_are_the_same_run(stored):
    assert len(learn(stored, steps=3, augment=("mixup", "flip", "crop")).loss) == 3


def test_a_file_of_another_teacher_or_run_is_not_overwritten(stored):
    before = stored.path.read_bytes()
    for teacher, changes, message in ((Net(5), {}, "teacher is"), (Net(), {"seed": 0}, "seed is 3 there and 0 here"),
                                      (Net(), {"top_k": 2}, "top_k is None there and 2 here")):
        with pytest.raises(LabError, match=f"{message}.*Give another path, or delete"):
            store_logits(teacher.eval(), pictures(), stored.path, **{**STORE, **changes})
    assert stored.path.read_bytes() == before


@pytest.mark.parametrize("what", ["features", "attention", "values"])
def test_features_cannot_be_had_of_a_file(what, stored):
    Wants = dataclasses.make_dataclass("Wants", [(f"teacher_{what}", tuple, (0,))], bases=(Labels,), frozen=True)

    with pytest.raises(LabError, match="stored logits show no features.*give the teacher itself"):
        distill(Net(), stored, pictures(), {"wants": Wants()}, **QUICK, **RUN)


def test_a_student_of_other_classes_is_refused(stored):
    with pytest.raises(LabError, match="student makes 4 logits and the teacher 3"):
        distill(Net(classes=4), stored, pictures(), {"soft": SoftTargets()}, **QUICK, **RUN)


def test_a_damaged_file_is_refused(stored):
    whole = bytearray(stored.path.read_bytes())
    for place in (len(whole) - 3, whole.index(b'seed') + 8):
        stored.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(LabError, match="no file of stored logits, or damaged.*make it anew"):
            StoredLogits(stored.path)
    stored.path.write_bytes(whole[:-10])
    with pytest.raises(LabError, match="no file of stored logits, or damaged"):
        StoredLogits(stored.path)


def forge(stored: StoredLogits, text=None, drop=(), **tensors):
    """The file with another run or other tensors, its sha256 honestly made anew."""
    text = json.dumps(stored.made_for) if text is None else text
    tensors = {name: value for name, value in {**stored._tensors, **tensors}.items() if name not in drop}
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    save_file(tensors, stored.path, {"format": stored_logits.FORMAT, "made_for": text, "sha256": digest.hexdigest()})


@pytest.mark.parametrize("spoil, words", [
    (lambda run: "[]", "names a list in place of a run"), (lambda run: "null", "names a NoneType"),
    (lambda run: "[" * 100_000, "nested more than 64 deep"), (lambda run: "[" * 70 + "]" * 70, "nested more than"),
    (lambda run: '{"seed": ' + "9" * 5000 + "}", "of 5,000 digits"),
    (lambda run: json.dumps({**run, "seed": math.nan}), "the number NaN"),
    (lambda run: json.dumps({**run, "teacher": 3}), "'teacher' is 3, which is of the wrong type"),
    (lambda run: json.dumps({key: value for key, value in run.items() if key != "teacher"}), "lacks the field 'teacher'"),
    (lambda run: json.dumps({**run, "steps": 8}), "not 128 answers on 3 classes"),
    (lambda run: json.dumps({**run, "num_classes": 2}), "not 112 answers on 2 classes"),
    (lambda run: json.dumps(run)[:-9], "Unterminated string"),
])
def test_a_run_that_was_put_together_by_hand_is_refused_in_a_sentence(stored, spoil, words):
    forge(stored, spoil(stored.made_for))
    with pytest.raises(LabError, match=f"no file of stored logits, or damaged .*{words}.*make it anew"):
        StoredLogits(stored.path)


@pytest.mark.parametrize("tensors, drop, words", [
    ({"values": torch.tensor(1.0)}, (), "its tensors are"), ({}, ("values",), "its tensors are {}|InvalidHeader"),
    ({"values": torch.zeros(112)}, (), "its tensors are"), ({"values": torch.full((112, 3), math.nan)}, (), "not all finite"),
    ({"values": torch.zeros(112, 2)}, (), "its tensors are"), ({"more": torch.zeros(1)}, (), "its tensors are"),
    ({"values": torch.zeros(112, 2), "indices": torch.full((112, 2), 3), "rest": torch.zeros(112)}, (), "beyond the 3"),
    ({"values": torch.zeros(112, 2), "indices": torch.full((112, 2), -1), "rest": torch.zeros(112)}, (), "beyond the 3"),
    ({"values": torch.zeros(112, 2), "indices": torch.zeros(112, 2), "rest": torch.zeros(112)}, (), "beyond the 3"),
])
def test_tensors_that_are_no_answers_to_the_run_are_refused_in_a_sentence(stored, tensors, drop, words):
    forge(stored, None, drop, **tensors)
    with pytest.raises(LabError, match=f"no file of stored logits, or damaged .*{words}"):
        StoredLogits(stored.path)


def test_a_disk_without_room_is_noticed_before_the_teacher_has_run_through(tmp_path, monkeypatch):
    teacher = Net().eval()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 671}))     # 112 x 3 x 2 bytes are needed
    with pytest.raises(LabError, match="said cannot be written .No space left.*make room"):
        store_logits(teacher, pictures(), tmp_path / "said", **STORE)
    assert teacher.calls == 1 and not list(tmp_path.iterdir())
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 672}))
    store_logits(teacher, pictures(), tmp_path / "said", **STORE)


def test_a_folder_that_is_deleted_while_the_teacher_runs_is_made_anew(tmp_path):
    class Deletes(Net):
        def forward(self, inputs: Tensor) -> Tensor:
            if self.calls == 3:
                (tmp_path / "inner").rmdir()
            return super().forward(inputs)

    (tmp_path / "inner").mkdir()
    found = store_logits(Deletes().eval(), pictures(), tmp_path / "inner" / "said", **STORE)
    assert found.path.is_file() and found.num_classes == 3


def test_what_is_no_such_file_is_refused(tmp_path):
    with pytest.raises(LabError, match=r"there is no file.*store_logits\(teacher, data"):
        StoredLogits(tmp_path / "nothing")
    save_file({"values": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(LabError, match="its format is None"):
        StoredLogits(tmp_path / "weights.safetensors")


def test_a_broken_off_run_leaves_no_file(tmp_path):
    class Stops(Net):
        def forward(self, inputs: Tensor) -> Tensor:
            found = super().forward(inputs)
            return found if self.calls < 5 else found * math.nan

    with pytest.raises(LabError, match="logits at step 4 are not finite"):
        store_logits(Stops().eval(), pictures(), tmp_path / "said", **STORE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changes, message", [
    ({"batch_size": 51}, "more than the 50 pictures"), ({"steps": 0}, "1 <= steps"), ({"top_k": 4}, "top_k <= 3"),
    ({"top_k": 0}, "1 <= top_k"), ({"augment": ("flop",)}, 'Did you mean "flip"'), ({"seed": -1}, "0 <= seed"),
])
def test_what_makes_no_run_is_refused(tmp_path, changes, message):
    with pytest.raises(LabError, match=message):
        store_logits(Net().eval(), pictures(), tmp_path / "said", **{**STORE, **changes})


def test_a_teacher_in_train_mode_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(LabError, match=r"train mode.*call teacher.eval\(\)"):
        store_logits(Net(), pictures(), tmp_path / "said", **STORE)
    with pytest.raises(LabError, match=r"does not exist; make it: Path\("):
        store_logits(Net().eval(), pictures(), tmp_path / "no" / "said", **STORE)
