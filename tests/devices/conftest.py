"""The second device for all tests in this folder.

They run for minutes, so only with LIGHTVIT_TEST_DEVICES=1 (`make test-devices`).
"""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import second_device  # noqa: E402


def pytest_collection_modifyitems(items):
    """Skip this folder's tests unless asked for, and where nothing compiles the device."""
    reason = None
    if not os.environ.get("LIGHTVIT_TEST_DEVICES"):
        reason = (
            "runs every page on a second device, for minutes: LIGHTVIT_TEST_DEVICES=1, or make "
            "test-devices"
        )
    elif second_device.compiler() is None:
        reason = "needs a C++ compiler for the second device: apt-get install g++, or set CXX"
    for item in items if reason else ():
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def lab(monkeypatch):
    """`torch.lab`, the device that the library runs on during the test."""
    monkeypatch.setenv("LIGHTVIT_DEVICE", "lab")
    device = second_device.load()
    yield device
    device.refuse_float64(False)
