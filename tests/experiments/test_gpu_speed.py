"""The study for a GPU, on a CPU that is taken for one: its shape, not its times."""

import pytest
import torch

from lightvit_lab.errors import LabError
from lightvit_lab.experiments import gpu_speed, studies
from lightvit_lab.profiling import timing


def test_without_a_gpu_it_is_refused_in_a_sentence_and_left_out_of_all(monkeypatch, capsys):
    monkeypatch.setenv("LIGHTVIT_DEVICE", "cpu")
    with pytest.raises(LabError, match="there is no GPU here"):
        gpu_speed.gpu_speed()
    assert gpu_speed.NAME not in studies.runnable() and "left out" in capsys.readouterr().out


def test_every_row_has_its_machine_and_the_base_is_as_fast_as_itself(monkeypatch):
    monkeypatch.setattr(gpu_speed, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(timing, "WARM_UP", 1)
    monkeypatch.setattr(timing, "LEAST_ROUNDS", 2)          # its times say nothing here
    found = gpu_speed.gpu_speed(batch=2, budget_s=0, sizes={64: 4}, light=("levit_128s",),
                                large="vit_tiny_patch16_224")
    (merging,) = found["merging"]
    assert set(merging["times"]["rows"]) == {f"{one}, {how}" for one in ("whole", "merged")
                                             for how in ("fused", "written out")}
    assert merging["times"]["rows"]["whole, fused"]["speedup"] == [1.0, 1.0, 1.0]
    assert merging["times"]["conditions"]["dtype"] == "bfloat16" and merging["macs"]["merged"] < merging["macs"]["whole"]
    assert set(found["light"]) == {"float32, 1", "float32, 2", "bfloat16, 1", "bfloat16, 2"}
    for block in [*found["light"].values(), merging["times"]]:
        assert all(row["machine"] for row in block["rows"].values())
