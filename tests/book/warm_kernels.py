"""Kernels that a process with the heavy imports done forks: a notebook's run begins after a second, not after ten.

They are ipykernel's own, and speak to nbclient as any kernel does. Run as a script, this is the process that forks them:
it reads orders, one JSON object a line, and answers each with the process id of a new kernel.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from typing import Any

HEAVY = ("torch", "timm", "captum.attr", "plotly.graph_objects", "ipywidgets", "ipykernel.kernelapp",
         "sklearn.datasets")


class Forked:
    """A forked kernel, with what jupyter_client asks of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """None while it runs; who forked it takes its exit status, so that 0 says no more than that it has ended."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def wait(self) -> int:
        """Wait for its end."""
        while self.poll() is None:
            time.sleep(0.05)
        return 0

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class WarmKernels:
    """Starts kernels for jupyter_client; the process that forks them starts with the first one, in its environment."""

    process: subprocess.Popen | None = None
    forked = 0

    def launch(self, command: list[str], env: dict[str, str], cwd: str | None = None, **options: Any) -> Forked:
        """In place of `jupyter_client.launcher.launch_kernel`: what `command` would start, forked."""
        if self.process is None:
            self.process = subprocess.Popen([sys.executable, "-Xfrozen_modules=off", __file__], env=env, text=True,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        arguments = command[command.index("ipykernel_launcher") + 1:]
        order = {"arguments": arguments, "env": env, "cwd": cwd or os.getcwd()}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        self.forked += 1
        return Forked(int(self.process.stdout.readline()))

    def close(self) -> None:
        """End the process that forks; its kernels have ended, or end with it."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()


def serve() -> None:
    """Import what is heavy, then fork a kernel for each order. No operator may run here: its threads would be lost."""
    from importlib import import_module

    del sys.path[0]                                      # this file's folder, which no reader's kernel has
    from lightvit_lab.runtime import ensure_torchvision

    ensure_torchvision()
    for name in HEAVY:
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)        # nobody waits for kernels: the system takes them away
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            become_kernel(**json.loads(line))
        os.setpgid(pid, pid)                             # in both processes, as neither knows which is first
        print(pid, flush=True)
    os._exit(0)                                          # takes nothing down piece by piece


def become_kernel(arguments: list[str], env: dict[str, str], cwd: str) -> None:
    """Make this process the kernel that `python -m ipykernel_launcher *arguments` is; ends with it."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)                                        # the first was for process ids
    os.environ.clear()
    os.environ.update({**env, "JPY_PARENT_PID": str(os.getppid())})
    os.chdir(cwd)
    sys.path.insert(0, cwd)                              # as `-m` does
    sys.argv = ["-m", *arguments]
    try:
        runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)
    finally:
        os._exit(0)


if __name__ == "__main__":
    serve()
