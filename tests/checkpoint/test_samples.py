import json

import pytest
import torch
from forging import parts
from samples import FOLDER, inputs

from lightvit_lab import checkpoint
from lightvit_lab.checkpoint import files

PATHS = sorted(FOLDER.glob("*.safetensors"))


def test_a_sample_lies_there_for_every_format_that_the_lab_has_written():
    assert {parts(path)[0]["format"] for path in PATHS} == set(files.FORMATS.values())


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
@torch.inference_mode()
def test_a_file_of_an_older_version_still_gives_the_logits_it_gave(path):
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    logits = checkpoint.load(path)(inputs(about["size"]))
    torch.testing.assert_close(logits, torch.tensor(about["logits"]), rtol=1e-5, atol=1e-6)
