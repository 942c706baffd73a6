"""Two processes on the CPU, started as a reader would start them: what tests of `accelerate launch` share."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch


def found_by_two(script: Path, folder: Path) -> dict:
    """Run `script folder` under `accelerate launch` in two processes; what the main one left in `folder/found.pt`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # On CPUs alone `accelerate launch --cpu` starts one process whatever it is told; --multi_gpu starts as many.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
               "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
               "--num_cpu_threads_per_process", "1", "--main_process_port", str(port), str(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "LIGHTVIT_DEVICE": "cpu"})
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "found.pt", weights_only=True)
