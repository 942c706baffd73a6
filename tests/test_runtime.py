import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightvit_lab import runtime
from lightvit_lab.errors import LabError


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_is_cheap_and_imports_no_torch():
    code = ("import sys, time; start = time.process_time(); import lightvit_lab;"     # CPU time: neighbours do not count
            "print(time.process_time() - start, *{'torch', 'plotly', 'numpy', 'timm'} & set(sys.modules))")
    runs = [_python(code).split() for _ in range(3)]
    assert runs[0][1:] == []
    assert min(float(run[0]) for run in runs) < 0.2


def test_timm_imports_after_the_guard_in_a_fresh_interpreter():
    mode, name = _python("from lightvit_lab.runtime import ensure_torchvision; mode = ensure_torchvision();"
                         "import timm; print(mode, timm.create_model('test_vit').__class__.__name__)").split()
    assert mode in ("native", "python-only")
    assert name == "VisionTransformer"


def test_guard_is_silent_and_idempotent():
    assert runtime.ensure_torchvision() == runtime.ensure_torchvision()


def test_guard_declares_names_and_pretends_nothing():
    if runtime.ensure_torchvision() == "native":
        return
    import pytest
    import torchvision

    with pytest.raises((NotImplementedError, RuntimeError)):
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)


def test_guard_leaves_other_import_errors_alone(monkeypatch):
    import builtins

    import pytest

    real = builtins.__import__

    def broken(name, *arguments, **keywords):
        if name == "torchvision":
            raise RuntimeError("another fault")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(runtime, "_library", None)
    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(RuntimeError, match="another fault"):
        runtime.ensure_torchvision()


def test_device_follows_the_environment(monkeypatch):
    monkeypatch.setenv("LIGHTVIT_DEVICE", "meta")
    assert runtime.device().type == "meta"


def test_the_device_is_the_gpu_where_there_is_one_unless_the_environment_names_another(monkeypatch):
    for there, named, wanted in [(True, None, "cuda"), (False, None, "cpu"), (True, "cpu", "cpu"), (True, "", "cuda"),
                                 (False, "meta", "meta")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.delenv("LIGHTVIT_DEVICE", raising=False)
        if named is not None:
            monkeypatch.setenv("LIGHTVIT_DEVICE", named)
        assert runtime.device() == torch.device(wanted)


def test_a_device_that_is_none_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setenv("LIGHTVIT_DEVICE", "gpu")
    with pytest.raises(LabError, match="LIGHTVIT_DEVICE='gpu' is no device that torch knows; give cpu, cuda"):
        runtime.device()


def test_an_apple_chip_is_named_by_the_system(monkeypatch):
    monkeypatch.setattr(runtime.sys, "platform", "darwin")
    monkeypatch.setattr(runtime, "_output", lambda *command: "Apple M3" if command[0] == "sysctl" else "")
    monkeypatch.setenv("LIGHTVIT_DEVICE", "mps")
    assert runtime.device_name() == "Apple M3, mps"


def test_versions_name_torch_and_python():
    base = runtime.versions()["torch"].partition("+")[0]      # the builds on PyPI do not agree on the part behind "+"
    assert base == torch.__version__.partition("+")[0]
    assert runtime.versions()["python"] == sys.version.split()[0]


def test_the_cache_is_absolute_and_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path / "mine"))
    assert runtime.cache() == tmp_path / "mine"
    monkeypatch.setenv("LIGHTVIT_CACHE", "here")
    assert runtime.cache() == Path.cwd() / "here"
    monkeypatch.delenv("LIGHTVIT_CACHE")
    assert runtime.cache() == Path.home() / ".cache" / "lightvit_lab"


def test_the_hardware_keeps_its_name_whatever_the_threads(monkeypatch):
    monkeypatch.setenv("LIGHTVIT_DEVICE", "cpu")
    names = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        names.append((runtime.hardware_name(), runtime.device_name()))
    assert names[0][0] == names[1][0]
    assert [name for _, name in names] == [f"{names[0][0]}, 1 thread", f"{names[0][0]}, 3 threads"]
