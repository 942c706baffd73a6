"""`lightvit-lab open STEM`: a page's notebook in JupyterLab, or where else it can be opened."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ..errors import LabError, require_choice
from .doctor import PACKAGE

LIBRARY = Path(__file__).resolve().parents[1]


def main(stem: str) -> int:
    """Open the notebook of a page; returns JupyterLab's exit code.

    A library without a checkout has no notebooks: then the address in Colab is printed. Raises
    LabError on a stem that is no page's, and where JupyterLab is missing.
    """
    pages = {file.stem: file.parent.name for file in (LIBRARY / "exercises").glob("*/*.json")}
    require_choice("open", "stem", stem, pages)
    page = f"{pages[stem]}/{stem}"
    notebook = LIBRARY.parent / "chapters" / pages[stem] / f"{stem}.ipynb"
    if not notebook.is_file():
        print("The notebooks are not installed here, only the library is. Open the notebook in "
              f"Colab: {address(page)}")
        return 0
    if find_spec("jupyterlab") is None:
        raise LabError("open: JupyterLab is not installed. Install it with: pip install "
                       f"jupyterlab. Or open the notebook in Colab: {address(page)}")
    return subprocess.call([sys.executable, "-m", "jupyterlab", str(notebook)])


def address(page: str) -> str:
    """Where Colab opens the notebook of a page, "<part>/<stem>"."""
    project = repository().removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{project}/blob/main/chapters/{page}.ipynb"


def repository() -> str:
    """The address of the project's repository, as the installed library has it."""
    links = metadata.distribution(PACKAGE).metadata.get_all("Project-URL")
    return dict(link.split(", ", 1) for link in links)["Repository"].rstrip("/")
