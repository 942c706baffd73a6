"""Puts the book's own modules on the path, as the Sphinx extension does."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
for folder in ("book/_tools", "book/_ext"):
    sys.path.insert(0, str(ROOT / folder))
