"""A thousand files that are not what `save` wrote, each refused in a sentence; nothing run, fetched or left behind."""

import json
import random
import sys
import time
from pathlib import Path

import pytest
import torch
from forging import forged, parts
from safetensors.torch import save as encode

from lightvit_lab import checkpoint, models
from lightvit_lab.checkpoint import files, recipes
from lightvit_lab.errors import LabError

COUNT = 1000
HUGE = 10**9
ARGUMENTS = [
    {"dim": HUGE}, {"depth": HUGE}, {"image_size": 10**6}, {"num_heads": HUGE}, {"patch_size": HUGE},
    {"in_channels": HUGE}, {"num_classes": HUGE}, {"mlp_ratio": 1e12}, {"mlp_ratio": 65536}, {"stem_depth": HUGE},
    {"depth": 65536}, {"stem_depth": 65536}, {"num_classes": 65536, "dim": 32768}, {"dim": 65536}, {"depth": 10**400},
    {"dim": -16}, {"dim": 0}, {"depth": -1}, {"num_heads": 0}, {"patch_size": 0}, {"image_size": 0}, {"dim": "16"},
    {"dim": [16]}, {"dim": None}, {"dim": {"a": 1}}, {"dim": 16.5}, {"depth": True}, {"embedding": "os.system"},
    {"colour": "red"}, {"self": 1}, {"pretrained": True}, {"checkpoint_path": "/etc/passwd"}, {"cache_dir": "/tmp"},
    {"device": "cpu"}, {"dim": float("nan")}, {"mlp_ratio": float("inf")}, {"embedding": "a" * 10**6},
    {"embedding": ["patch"] * 10**5}, {f"a{i}": i for i in range(10**4)},
]
TIMM = [
    {"pretrained": True}, {"checkpoint_path": "/etc/passwd"}, {"pretrained_cfg": {"file": "/etc/passwd"}},
    {"pretrained_cfg": "https://example.org/w.pth"}, {"pretrained_cfg_overlay": {"url": "https://example.org/w.pth"}},
    {"cache_dir": "/tmp"}, {"device": "cuda"}, {"dtype": "float64"}, {"img_size": 10**6}, {"img_size": [1024, 10**6]},
    {"depth": HUGE}, {"depth": 65536}, {"embed_dim": 65536}, {"img_size": 1024, "patch_size": 1},
    {"act_layer": "os.system"}, {"norm_layer": "builtins.eval"}, {"block_fn": "eval"},
    {"embed_layer": "subprocess.Popen"}, {"weight_init": "x"}, {"model_cfg": {}}, {"kwargs_filter": ["img_size"]},
    {"pretrained_filter_fn": "eval"}, {"features_only": True},
]
NAMES = [
    "lab_vit_studemt", "lab_vit", "lab_lightvit", "lab_cnn", "vit_giant_patch14_224", "resnet18",
    "hf-hub:timm/resnet18", "hf_hub:someone/anything", "local-dir:/etc", "/etc/passwd", "../zoo",
    "lightvit_lab.models.lab_vit", "os.system", "timm.models.vision_transformer.VisionTransformer",
    "zoo:lab_cnn/shapes", "", "https://example.org/w.pth", "__import__", "eval", "deit_tiny_patch16_224.nothing",
]
PLANS = [
    {"transform": "os.system"}, {"transform": "lightvit_lab.compression.structure.apply_pruning"},
    {"transform": None}, {}, [], 7, {"transform": ["crop"]}, {"transform": "__class__"}, {"transform": "crop"},
    {"transform": "crop", "kept": []}, {"transform": "crop", "kept": [0, 99]}, {"transform": "crop", "kept": [-1, 0]},
    {"transform": "crop", "kept": [0, 0]}, {"transform": "crop", "kept": [0, HUGE]},
    {"transform": "crop", "kept": "01"}, {"transform": "crop", "kept": {"0": 1}},
    {"transform": "crop", "kept": [0.5]}, {"transform": "crop", "kept": None},
    {"transform": "crop", "kept": [0, 1, 2]}, {"transform": "crop", "kept": list(range(10**5))},
    {"transform": "crop", "kept": [[[[[[[[[[[[0]]]]]]]]]]]]}, {"transform": "widen", "to": HUGE},
    {"transform": "widen", "to": 65536}, {"transform": "widen", "to": 5},
]


def crop(model, plan):
    """A transform such as the lab's: keep some channels of the first layer of every MLP."""
    kept = torch.as_tensor(plan["kept"])
    for block in model.blocks:
        block.mlp.fc1.weight = torch.nn.Parameter(block.mlp.fc1.weight.index_select(0, kept))
    return model


def widen(model, plan):
    """A transform that makes as much as it is told to."""
    model.extra = torch.nn.Linear(plan["to"], plan["to"])
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two valid files, in a folder of their own."""
    folder = tmp_path_factory.mktemp("damage")
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = models.create_model("lab_vit_student", image_size=16, patch_size=8, dim=16, depth=2, num_heads=2,
                                    mlp_ratio=2)
        checkpoint.save(model, folder / f"{seed}.safetensors")
    return folder


def flipped(random, content):
    content = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 8, 64))):
        content[random.randrange(random.choice((8, 600, len(content))))] ^= random.choice((1, 2, 0x20, 0x80, 0xFF))
    return bytes(content)


def swapped(random, content, other):
    """A part of one file in the other: the recipe's, the header's or the tensors' bytes."""
    start = random.choice((0, 8, 8 + int.from_bytes(content[:8], "little"), random.randrange(len(content))))
    end = random.choice((len(content), start + 1000))
    return content[:start] + other[start:end][::-1 if start == 0 else 1] + content[end:]


def oversized(random, content):
    """Promises: a header of gigabytes, tensors of terabytes, a header of megabytes; or more bytes than are promised."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = random.choice([name for name in header if name != "__metadata__"])
    kind = random.randrange(4)
    if kind == 0:
        return random.choice((2**20, 2**31, 2**63 - 1, 2**64 - 1)).to_bytes(8, "little") + content[8:]
    if kind == 1:
        return content + bytes(random.randrange(1, 4000))
    if kind == 2:
        header[name] |= {"shape": [2**40, 2**20], "data_offsets": [0, 2**62]}
    else:
        header["__metadata__"]["lightvit_lab"] = random.choice(("[" * 10**5, '{"format":' * 10**4, " " * 5 * 10**6))
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def recipes_of_strangers(own):
    """Texts of recipes, none of which makes the model of `own`."""
    lab = [{**own, "arguments": {**own["arguments"], **changes}} for changes in ARGUMENTS]
    small = {"img_size": 32, "patch_size": 8, "depth": 1}
    timm = [{"name": "deit_tiny_patch16_224", "arguments": {**small, **changes}} for changes in TIMM]
    named = [{**own, "name": name} for name in NAMES]
    planned = [{**own, "plans": plans} for plan in PLANS for plans in ([plan], [plan] * 2)]
    several = ("crop", {"transform": "crop"}, [None], [{"transform": "crop", "kept": [0]}] * 1000)
    planned += [{**own, "plans": plans} for plans in several]
    formed = [[], None, 7, "x", {"name": "lab_vit"}, {**own, "arguments": []}, {**own, "name": 7},
              {**own, "module": "os"}, {**own, "name": ["lab_vit"]}]
    deep, start = "[" * 10_000 + "]" * 10_000, '{"name": "lab_vit", "arguments": {'
    texts = [start + f'"dim": {deep}}}}}', start + f'}}, "plans": {deep}}}', start + f'"dim": {"9" * 5000}}}}}', deep,
             "", "{", "nul", "[" * 10_000]
    return [json.dumps(recipe) for recipe in lab + timm + named + planned + formed] + texts


def damaged(folder):
    """(kind, bytes) of each of the thousand files, by a seed."""
    draw = random.Random(0)
    content, other = ((folder / f"{seed}.safetensors").read_bytes() for seed in (0, 1))
    about, tensors = parts(folder / "0.safetensors")
    for text in recipes_of_strangers(json.loads(about["recipe"])):
        yield "recipe", lambda text=text: forged(about, tensors, text)
    formats = ({"format": "lightvit_lab model 99"}, {"format": None}, {"format": [1]})
    for changes in (*formats, {"sha256": None}, {"recipe": 7}):
        yield "about", lambda changes=changes: encode(tensors, {"lightvit_lab": json.dumps({**about, **changes})})
    yield "about", lambda: encode(tensors, {"lightvit_lab": "[]"})
    kinds = {"flipped": lambda: flipped(draw, content), "cut": lambda: content[: draw.randrange(len(content))],
             "swapped": lambda: swapped(draw, content, other), "oversized": lambda: oversized(draw, content)}
    while True:
        yield from kinds.items()


ACTS = ("open", "socket", "subprocess", "os", "pickle", "urllib", "ctypes", "shutil")


class Watch:
    """Writes down, while it is on, what Python's audit events tell of files, connections, programs and pickles."""

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.on and event.split(".")[0] in ACTS:
            self.seen.append((event, str(arguments[0]) if arguments else ""))


def most_memory():
    """The most bytes that this process has held since `forget_memory`; None where the system does not say."""
    status = Path("/proc/self/status")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 if status.is_file() else None


def forget_memory():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the system does not let a process measure its memory anew")


def test_a_thousand_damaged_files_are_refused_in_a_sentence_and_nothing_is_run_or_fetched(folder, monkeypatch):
    monkeypatch.setattr(recipes, "TRANSFORMS", {**recipes.TRANSFORMS, "crop": crop, "widen": widen})
    path, watch, counts, slowest = folder / "bad.safetensors", Watch(), {}, 0.0
    whole = [checkpoint.load(folder / f"{seed}.safetensors").state_dict() for seed in (0, 1)]
    originals = {(folder / f"{seed}.safetensors").read_bytes() for seed in (0, 1)}
    for (kind, make), _ in zip(damaged(folder), range(COUNT)):
        content = make()
        path.write_bytes(content)
        watch.on, start = True, time.process_time()
        try:
            loaded = checkpoint.load(path).state_dict()
        except LabError as error:
            assert "bad.safetensors" in str(error) and len(str(error)) < 1500, error
            counts[kind] = counts.get(kind, 0) + 1
        else:       # what was swapped or flipped stood in both files, or nowhere
            assert kind in ("flipped", "swapped") and any(same(loaded, each) for each in whole), (kind, content[:700])
            counts["harmless"] = counts.get("harmless", 0) + (content not in originals)
        watch.on, slowest = False, max(slowest, time.process_time() - start)
    assert set(watch.seen) == {("open", str(path))}
    assert slowest < 10 and counts.pop("harmless", 0) < 5 and sum(counts.values()) > 0.9 * COUNT and len(counts) == 6


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_thousandth_of_the_memory_that_recipes_ask_for_is_enough_to_refuse_them(folder, monkeypatch):
    monkeypatch.setattr(recipes, "TRANSFORMS", {**recipes.TRANSFORMS, "crop": crop, "widen": widen})
    path = folder / "greedy.safetensors"
    about, tensors = parts(folder / "0.safetensors")
    own = json.loads(about["recipe"])
    checkpoint.load(folder / "0.safetensors")
    forget_memory()
    before = most_memory()
    for changes in ({"dim": 65536}, {"depth": 65536}, {"num_classes": 65536, "dim": 32768}, {"mlp_ratio": 65536}):
        path.write_bytes(forged(about, tensors, {**own, "arguments": {**own["arguments"], **changes}}))
        with pytest.raises(LabError, match="out of proportion|cannot be made"):
            checkpoint.load(path)
    plan = {"transform": "widen", "to": 65536}      # 17 GB as float32
    path.write_bytes(forged(about, tensors, {**own, "plans": [plan]}))
    with pytest.raises(LabError, match="out of proportion"):
        checkpoint.load(path)
    assert most_memory() - before < 17e9 / 1000


def test_a_sparse_file_of_terabytes_and_a_header_of_gigabytes_are_refused_unread(tmp_path):
    path = tmp_path / "huge.safetensors"
    for promised, size, words in ((100, files.LARGEST + 1, "more than the"), (2**31, 2**31 + 9, "promises a header")):
        with path.open("wb") as file:
            file.write(promised.to_bytes(8, "little"))
            file.truncate(size)
        start = time.process_time()
        with pytest.raises(LabError, match=words):
            checkpoint.load(path)
        assert time.process_time() - start < 0.1
