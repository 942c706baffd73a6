"""Every writer of the library as a pair of functions: write state number n, and read which it is.

`read` raises, or gives None, where what lies there is no whole state.
"""

import hashlib
import threading
from pathlib import Path

import torch
from torch import nn

from lightvit_lab import checkpoint, models, profiling, storage
from lightvit_lab.checkpoint import zoo
from lightvit_lab.data import decoded, download
from lightvit_lab.distillation import StoredLogits
from lightvit_lab.distillation.response_distillation import stored_logits
from lightvit_lab.exercises import record
from lightvit_lab.experiments import kit, results
from lightvit_lab.experiments import zoo as training_zoo
from lightvit_lab.training import saving

RUN = {"pictures": "none", "seed": 0, "augment": [], "order": "none", "steps": 4, "teacher": "made up",
       "num_classes": 500, "batch_size": 32}


def only(values):
    """The one number that all of `values` are."""
    first = values.flatten()[0]
    assert (values == first).all()
    return int(first)


def filled(model: nn.Module, number: int) -> nn.Module:
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(number)
    return model


def a_result(folder, patch):
    patch.setattr(results, "folder", lambda: folder)
    patch.setattr(results.runtime, "commit", lambda: "none")        # asks git, which takes most of the time

    def read():
        data = results.load("trial").data
        assert set(data["fill"]) == {data["number"]} and len(data["fill"]) == 2000
        return data["number"]
    return lambda n: results.save("trial", {"number": n, "fill": [n] * 2000}, [0], "c", 1.0), read


def a_result_with_weights(folder, patch):
    patch.setattr(results, "folder", lambda: folder)
    patch.setattr(results.runtime, "commit", lambda: "none")

    def write(number):
        about = results.save_weights("trial", filled(nn.Linear(100, 100), number))
        results.save("trial", {"number": number, **about}, [0], "c", 1.0)

    def read():
        number = results.load("trial").data["number"]
        model = results.load_weights("trial", nn.Linear(100, 100))
        assert only(model.weight) == only(model.bias) == number
        return number
    return write, read


def a_kept_run(folder, patch):
    patch.setattr(kit.runtime, "cache", lambda: folder)

    def write(number):
        run = {"test": number, "cpu_seconds": 1, "fill": [number] * 2000}
        assert kit.cached("study", [number], lambda: run, "run") == run

    def read():
        found = [storage.read_json("test", path, "") for path in (folder / "studies").glob("*.json")]
        numbers = sorted(run["test"] for run in found)
        assert all(set(run["fill"]) == {run["test"]} for run in found) and numbers == list(range(len(numbers)))
        return numbers[-1]
    return write, read


def a_model(folder, patch):
    model = models.create_model("lab_cnn", widths=[8, 16])
    bias = [name for name, _ in model.named_parameters()][-1]
    return (lambda n: checkpoint.save(filled(model, n), folder / "model.safetensors"),
            lambda: only(checkpoint.load(folder / "model.safetensors").get_parameter(bias)))


def a_model_of_the_zoo(folder, patch):
    patch.setattr(zoo, "folder", lambda: folder)
    model = models.create_model("lab_cnn", widths=[8, 16])
    bias = [name for name, _ in model.named_parameters()][-1]

    def write(number):
        about = {"name": "lab_cnn/digits", "model": "lab_cnn", "dataset": "digits", "seed": number,
                 "validation": {"accuracy": 0.5}, "test": {"accuracy": 0.5}}
        training_zoo._store("lab_cnn/digits", filled(model, number), about)

    def read():
        number = only(checkpoint.load("zoo:lab_cnn/digits").get_parameter(bias))
        assert zoo.card("lab_cnn/digits")["seed"] == number
        return number
    return write, read


def a_run(folder, patch):
    file = saving.Checkpoint(folder / "run.pt", {"model": {}})
    return (lambda n: file.write({"model": {"weight": torch.full((20_000,), float(n))}, "optimizer": {}}),
            lambda: only(file.read()["model"]["weight"]))


def stored_answers(folder, patch):
    path = folder / "said"
    return (lambda n: stored_logits._write(path, RUN, {"values": torch.full((128, 500), -n, dtype=torch.float16)}),
            lambda: -only(StoredLogits(path)._tensors["values"]))


def decoded_pictures(folder, patch):
    path, source = folder / "decoded" / "set-1.safetensors", decoded.Source("set", (), lambda: None)

    def write(number):
        pixels = torch.full((2, 64, 3, 16, 16), number % 251, dtype=torch.uint8)
        train, test = pixels[0].clone(), pixels[1].clone()
        parts = decoded.Parts(train, torch.zeros(64).long(), test, torch.zeros(64).long(), ("a", "b"), str(number),
                              torch.zeros(3), torch.ones(3))
        decoded._write(path, source, parts)

    def read():
        parts = decoded._open(path)
        assert only(parts.train_pixels) == int(parts.title) % 251
        return int(parts.title)
    return write, read


def progress_of_exercises(folder, patch):
    for name in ("LIGHTVIT_PROGRESS", "LIGHTVIT_BOOK", "CI"):
        patch.delenv(name, raising=False)
    patch.setenv("LIGHTVIT_CACHE", str(folder))
    patch.setattr(record, "_session", {})

    def read():
        record._session.clear()
        numbers = sorted(int(name.split(".")[1]) for name in record.entries())
        assert numbers == list(range(len(numbers)))
        return numbers[-1]
    return lambda n: record.note(f"page.{n}", "passed"), read


def a_card_of_the_machine(folder, patch):
    patch.setenv("LIGHTVIT_CACHE", str(folder))
    peaks = [profiling.Peaks(1.0, 1.0, "float32", 1, "here").__dict__] * 200
    return (lambda n: profiling.peaks._write(folder / "machine_cpu.json", {"number": n, "peaks": peaks}),
            lambda: storage.read_json("test", folder / "machine_cpu.json", "")["number"])


def a_download(folder, patch):
    patch.delenv("LIGHTVIT_OFFLINE", raising=False)
    patch.setattr(download, "print", lambda *given, **how: None, raising=False)
    patch.setattr(download, "_CHUNK", 2**12)
    # Forks share tqdm's lock, and one that is killed while it holds it stops all others. Users' processes share none.
    patch.setattr(download.tqdm, "_lock", threading.RLock(), raising=False)
    patch.setenv("LIGHTVIT_BOOK", "1")              # no progress bar

    def content(number):
        return number.to_bytes(4, "big") * 20_000

    (folder / "mirror").mkdir()
    (folder / "mirror" / "1.bin").write_bytes(content(1))       # what is not written on a full disk

    def write(number):
        there = folder / "mirror" / f"{number}.bin"
        if not there.is_file() or there.stat().st_size != 80_000:       # a kill may have come into the mirror
            there.write_bytes(content(number))
        remote = download.Remote(there.name, (there.as_uri(),), hashlib.sha256(content(number)).hexdigest(), 80_000)
        download.fetch(remote, folder / "cache")

    def read():
        found = sorted(int(path.stem) for path in (folder / "cache").glob("*.bin"))
        assert all((folder / "cache" / f"{number}.bin").read_bytes() == content(number) for number in found)
        assert found == list(range(len(found)))
        return found[-1]
    return write, read


WRITERS = {make.__name__.replace("_", " "): make for make in (
    a_result, a_result_with_weights, a_kept_run, a_model, a_model_of_the_zoo, a_run, stored_answers, decoded_pictures,
    progress_of_exercises, a_card_of_the_machine, a_download)}
RAISES = ("a result", "a result with weights", "a model", "a model of the zoo", "stored answers", "a download")


def leftovers(folder: Path) -> list[str]:
    """Files that are neither a state nor a lock."""
    return [path.name for path in folder.rglob("*") if path.suffix in (".partial", ".next", ".tmp")]
