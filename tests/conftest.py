"""One thread for all tests: beside a busy neighbour, two threads can be sixteen times slower than one.

No test may read or change the progress of whoever runs it.
"""

import os
import sys
import threading
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from lightvit_lab.runtime import ensure_torchvision

ensure_torchvision()   # so that any test file may import timm, also when it runs alone
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")      # of the programs that tests start
# A forked child that is killed while it draws its progress would keep the lock that it shares with
# its parent, whose next progress bar would then wait for ever. The lock is made here, of the class
# above all others: a class below, such as that of tqdm.auto, would else make one of its own.
tqdm.get_lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: tqdm.set_lock(threading.RLock()))
os.environ["LIGHTVIT_PROGRESS"] = "0"
ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# The grader of this checkout, also where it is not installed and in the processes that tests start.
GRADER = str(ROOT / "book" / "grader")
sys.path.append(GRADER)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), GRADER]))


@pytest.fixture
def real_pictures(monkeypatch) -> Path:
    """The folder of real data sets: LIGHTVIT_DATA, or ../shared/data; skips where there is neither."""
    folder = Path(os.environ.get("LIGHTVIT_DATA") or SHARED / "data")
    if not (folder / "fashion_mnist").is_dir():
        pytest.skip("needs real pictures: set LIGHTVIT_DATA to a folder that holds fashion_mnist/")
    monkeypatch.setenv("LIGHTVIT_DATA", str(folder))
    return folder
