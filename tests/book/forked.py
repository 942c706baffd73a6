"""Builds of Sphinx in forks of the process that tests: what it has imported, torch above all, no build imports again.

A fork, since Sphinx registers nodes once a process, and since what a build imports and sets must not stay.
"""

import io
import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWN = ("lightvit_lab", "timm", *(path.stem for folder in ("_ext", "_tools") for path in (ROOT / "book" / folder).glob("*.py")))


def run(main, said, *, cwd=None, env=None, timeout=300):
    """Exit status of `main()` in a fork, and all that it prints, with its children, by way of the file `said`.

    With `env`, its environment; nothing of the book, its library and timm is then imported yet, and PYTHONPATH leads.
    """
    sys.stdout.flush(), sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become(main, said, cwd, env)
    end = time.monotonic() + timeout
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError(Path(said).read_text(encoding="utf-8"))
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(ended[1]), Path(said).read_text(encoding="utf-8")


def _become(main, said, cwd, env):
    """Run `main()` and end the process with its status, as Python does."""
    status = 1
    try:
        os.setpgid(0, 0)
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1), os.dup2(file, 2)
        sys.stdin = open(os.devnull)
        sys.stdout, sys.stderr = (io.TextIOWrapper(open(number, "wb", 0), encoding="utf-8", write_through=True)
                                  for number in (1, 2))
        os.chdir(cwd or os.getcwd())
        if env is not None:
            _forget(env)
        _unregister()
        status = main() or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _forget(env):
    """The environment `env`, its PYTHONPATH before what is installed, and no module of a book or a library of ours."""
    os.environ.clear()
    os.environ.update(env)
    ours = {str(ROOT), *(str(ROOT / "book" / folder) for folder in ("_ext", "_tools"))}
    installed = [path for path in sys.path if path not in ours and not path.startswith(str(ROOT / "tests"))]
    sys.path[:] = [*env["PYTHONPATH"].split(os.pathsep), *installed]
    _forget.kept = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] in OWN}   # lives on


def _unregister():
    """No node is registered, as at the start of a process."""
    from sphinx.util import docutils
    for node in [*docutils.additional_nodes]:
        docutils.unregister_node(node)
        docutils.additional_nodes.discard(node)
