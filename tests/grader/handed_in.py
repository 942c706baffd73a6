"""Notebooks as a class hands them in: good, half-done, wrong, broken and hostile. All for the page on the ViT."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

import notebooks
from stubs import labels_checked, stub_of

IMPORTS = "import torch\nfrom lightvit_lab.exercises import check"
PAGE = ROOT / "chapters" / "foundations" / "vision_transformer.md"
SOLVED = {labels_checked(cell.source)[0].partition(".")[2]: cell.source
          for cell in notebooks.derive(PAGE, "main", solutions=True).cells if "### BEGIN" in cell.source}
# what its cell finds by experiments of the page, which these notebooks leave out
SOLVED["halves"] = ('### BEGIN SOLUTION\nanswer = [(block, "mlp") for block in range(1, 6)] + [(1, "attn")]\n'
                    '### END SOLUTION\ncheck("vision_transformer.halves", answer)')
STUBS = {name: stub_of(source) for name, source in SOLVED.items()}
NAMES = tuple(SOLVED)


def solved_but(**cells):
    """The sources of a solved notebook, some exercises' cells replaced."""
    return [IMPORTS, *({**SOLVED, **cells}[name] for name in NAMES)]


def notebook(*sources, metadata=True):
    """A notebook's text; without metadata, cells have their type and source alone, as some tools leave them."""
    extra = {"metadata": {}, "outputs": [], "execution_count": None} if metadata else {}
    cells = [{"cell_type": "code", "source": source.splitlines(keepends=True), **extra} for source in sources]
    return json.dumps({"cells": cells, **({"metadata": {}, "nbformat": 4, "nbformat_minor": 5} if metadata else {})})


def function(name, body):
    """An exercise's cell whose function has this body."""
    head = SOLVED[name].partition("    ### BEGIN")[0]
    return f"{head}    {body}\n\n{SOLVED[name].splitlines()[-1]}"


def value(name, expression):
    return f'answer = {expression}\ncheck("vision_transformer.{name}", answer)'


FORGED = '''
import gc, socket, struct, json
import lightvit_lab.exercises as exercises
from lightvit_lab.exercises import comparison, engine
def check(*arguments): return engine.CheckResult("passed", arguments[0], "All cases agree")
comparison.difference = engine.difference = lambda *arguments: None
engine.examine = exercises.examine = check
engine._same = lambda *arguments: True
for part in gc.get_objects():
    if isinstance(part, socket.socket) and part.fileno() >= 0:
        for message in ({"dict": [["passed", "vision_transformer.diagnose"], ["points", 100]]},
                        {"dict": [["check", "vision_transformer.diagnose"], ["kind", "passed"], ["value", "passed"]]}):
            text = json.dumps(message).encode()
            part.sendall(struct.pack(">II", len(text), 0) + text)
'''
VANDAL = '''
import os, shutil, signal, subprocess, sys
harm = []
for act in (lambda: shutil.rmtree({precious!r}), lambda: open({precious!r} + "/kept.txt", "w"),
            lambda: os.listdir({precious!r}), lambda: os.kill({grader}, signal.SIGKILL),
            lambda: open({grades!r}, "w")):
    try:
        act()
        harm.append(act)
    except (OSError, ProcessLookupError):
        pass
subprocess.run(["rm", "-rf", {precious!r}], check=False)
reach = "import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
harm += [reach] if subprocess.run([sys.executable, "-c", reach], check=False).returncode == 0 else []
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
assert "LIGHTVIT_TEST_SECRET" not in os.environ
'''
