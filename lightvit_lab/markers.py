"""The two lines between which a solution cell holds its answer.

Stubs and known mistakes are made there. Imports no torch, so that notebooks can be derived where
there is none.
"""

from __future__ import annotations

import re

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
ANSWER = re.compile(rf"^(?P<indent> *){BEGIN} *\n(?P<answer>.*?)^(?P=indent){END} *$",
                    re.DOTALL | re.MULTILINE)


def without_markers(code: str) -> str:
    """Code without the lines that are markers."""
    return "\n".join(line for line in code.splitlines() if line.strip() not in (BEGIN, END))
