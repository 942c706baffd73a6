"""Turn the Markdown of a page into plain Markdown that reads well in Colab.

There is a closed list of directives and roles. What is not on it raises LabError with the page and
the line, so that a reader never meets raw markup of the book.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from citations import citation, read_works, reference_list
from myst_directives import BIBLIOGRAPHY, DIRECTIVES, Directive

from lightvit_lab.errors import LabError, require_choice

FENCE = re.compile(r"^(?P<indent>\s*)(?:(?P<ticks>`{3,})(?P<rest>\{.*|[^`]*)"
                   r"|(?P<colons>[:~]{3,})(?P<words>.*))$")
DIRECTIVE = re.compile(r"^\s*\{(?P<name>[^}\s]*)\}\s*(?P<argument>.*?)\s*$")
DROPPED = re.compile(r"^\s{0,3}(?:\([^()\s]+\)=\s*$|%)")            # (label)= and % comments
EXERCISE = re.compile(r"\{(?:exercise|open-question)\}[^\n]*\n(?:---\n|:)label: *(\S+)")
# the option, or $$ (label)
EQUATION = re.compile(r"\{math\}[^\n]*\n(?:[ \t]*:[\w-]+:.*\n)*?[ \t]*:label:[ \t]*(\S+)"
                      r"|^.*\$\$[ \t]*\((\S+)\)[ \t]*$", re.MULTILINE)
# any character, but never over a blank line
RUN = r"(?:(?!\n[ \t]*\n).)"
INLINE = re.compile(rf"""
    \\.
  | \{{(?P<role>[A-Za-z][\w:.+-]*)\}}(?P<tick>`+)(?P<content>{RUN}+?)(?<!`)(?P=tick)(?!`)
  | (?P<ticks>`+)(?!`){RUN}+?(?<!`)(?P=ticks)(?!`)
  | \$\$(?P<display>{RUN}+?)\$\$(?:[ \t]*\((?P<label>[^)\s]+)\)(?=[ \t]*(?:\n|\Z)))?
  | \$(?!\$)(?:\\.|(?!\n[ \t]*\n)[^$\\])+\$
  | (?P<bang>!?)\[(?P<words>[^\[\]]*)\]\((?P<target>[^)\s]+)(?P<hover>[ ]+"[^"]*")?\)
  | (?P<foreign>\[\^[^\]\s]+\]|\{{\{{.*?\}}\}})
""", re.VERBOSE | re.DOTALL)


@dataclass
class Page:
    """A page being converted: its place, the target of its links, the works cited so far."""

    path: Path                 # absolute
    root: Path                 # of the repository
    repository: str            # its address
    ref: str                   # the commit that links to files are pinned to
    cited: list[str] = field(default_factory=list)

    @cached_property
    def text(self) -> str:
        """The page's source."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def works(self) -> dict[str, Any]:
        """The entries of the bibliography by key."""
        return read_works(self.root / "book" / "references.bib")

    @cached_property
    def equations(self) -> dict[str, int]:
        """Number of each labelled formula, counted over the page."""
        labels = [first or second for first, second in EQUATION.findall(self.text)]
        return {label: number for number, label in enumerate(labels, start=1)}

    @cached_property
    def exercises(self) -> dict[str, int]:
        """Number of each exercise and open question, counted over the page as in the book."""
        return {label: number for number, label in enumerate(EXERCISE.findall(self.text), start=1)}

    @property
    def name(self) -> str:
        """The path below the root of the repository."""
        return self.path.relative_to(self.root).as_posix()

    def place(self, line: int) -> str:
        """Page and line, for messages."""
        return f"{self.name}:{line}"

    def find(self, target: str, line: int, suffix: str = "") -> Path:
        """The file of a link, from the page's folder or, with a leading "/", from the root."""
        start = self.root if target.startswith("/") else self.path.parent
        file = (start / (target.lstrip("/") + suffix)).resolve()
        if not file.is_file() or not file.is_relative_to(self.root):
            raise LabError(f"{self.place(line)}: there is no file {target + suffix} to link to")
        return file

    def raw_link(self, target: str, line: int) -> str:
        """Address of a file's content at the pinned commit; an address stays as it is."""
        if re.match(r"https?://|data:", target):
            return target
        file = self.find(target, line).relative_to(self.root)
        return f"{self.repository}/raw/{self.ref}/{file.as_posix()}"

    def book_link(self, file: Path) -> str:
        """Address of another page in the published book, where GitHub Pages puts it."""
        owner, name = self.repository.rstrip("/").split("/")[-2:]
        path = file.relative_to(self.root).with_suffix(".html").as_posix()
        return f"https://{owner}.github.io/{name}/{path}"


def convert(page: Page, lines: list[str], first: int = 1) -> list[str]:
    """Lines of plain Markdown for `lines` of the page, the first of which has number `first`."""
    result: list[str] = []
    position = 0
    while position < len(lines):
        fence = FENCE.match(lines[position])
        if fence:
            end = closing_fence(page, lines, position, first) + 1
            block = fenced(page, fence, lines[position:end], first + position)
        else:
            fences = (i for i in range(position, len(lines)) if FENCE.match(lines[i]))
            end = next(fences, len(lines))
            block = prose(page, lines[position:end], first + position)
        # one blank line between blocks is enough
        while block and not block[0] and not (result and result[-1]):
            block = block[1:]
        result, position = result + block, end
    return result


def closing_fence(page: Page, lines: list[str], opening: int, first: int) -> int:
    """Index of the line that closes the fence at `opening`: a run of its character as long."""
    mark = re.match(r"\s*([`:~])\1*", lines[opening])[0].strip()
    closes = re.compile(rf"\s*{mark[0]}{{{len(mark)},}}\s*$")
    for index in range(opening + 1, len(lines)):
        if closes.match(lines[index]):
            return index
    raise LabError(f"{page.place(first + opening)}: the fence {lines[opening].strip()!r} is never "
                   f"closed; end it with {mark}, and give an outer fence more of them than an "
                   "inner one")


def fenced(page: Page, fence: re.Match[str], block: list[str], line: int) -> list[str]:
    """A directive as plain Markdown; a code block as it is."""
    rest = fence["rest"] if fence["ticks"] else fence["words"]
    opening = DIRECTIVE.match(rest)
    if opening is None and not (fence["colons"] or "").startswith(":"):
        return block
    if fence["ticks"] and "`" in rest:
        raise LabError(f"{page.place(line)}: a ` in its first line breaks this fence; fence the "
                       "directive with :::")
    name = opening["name"] if opening else rest.strip()
    require_choice(page.place(line), "directive", name, DIRECTIVES)
    indent = fence["indent"]
    inside = [text.removeprefix(indent) for text in block[1:-1]]
    options, body, skipped = split_options(page, inside, line)
    directive = Directive(
        name, opening["argument"], options, body, page.place(line), equations=page.equations,
        number=page.exercises.get(options.get("label", "")),
        inner=lambda: convert(page, body, line + 1 + skipped),
        inline=lambda text: inline(page, text, line),
        raw_link=lambda target: page.raw_link(target, line))
    plain = "\n".join(DIRECTIVES[name](directive)).strip("\n").split("\n")
    # without blank lines it would join its neighbours
    return ["", *((indent + text).rstrip() for text in plain), ""]


def split_options(page: Page, body: list[str], line: int) -> tuple[dict[str, str], list[str], int]:
    """Options of a directive (`:key: value` lines or a `---` block), the rest, and their lines."""
    count = 0
    if body and body[0].strip() == "---":
        count = next((i + 1 for i in range(1, len(body)) if body[i].strip() == "---"), len(body))
        written = "\n".join(body[1:count - 1])
    else:
        while count < len(body) and re.match(r"\s*:[\w-]+:(\s|$)", body[count]):
            count += 1
        written = "\n".join(re.sub(r"^\s*:([\w-]+):\s*(.*)$", quoted_option, text)
                            for text in body[:count])
    try:
        options = yaml.safe_load(written) or {}
    except yaml.YAMLError as error:
        raise LabError(f"{page.place(line + 1)}: the options of the directive cannot be read: "
                       f"{error}") from error
    while count < len(body) and not body[count].strip():
        count += 1
    return {key: str(value) for key, value in options.items()}, body[count:], count


def quoted_option(option: re.Match[str]) -> str:
    """`:key: value` as YAML whose value is taken literally."""
    return f"{option[1]}: '" + option[2].strip().replace("'", "''") + "'"


def prose(page: Page, lines: list[str], first: int) -> list[str]:
    """Text outside fences: targets and comments dropped, roles and links converted."""
    lines = ["" if DROPPED.match(line) else line for line in lines]
    text = re.sub(r"\n{3,}", "\n\n", inline(page, "\n".join(lines), first))
    return text.split("\n")


def inline(page: Page, text: str, first: int) -> str:
    """Roles and links of `text` as plain Markdown; code and formulas stay untouched."""
    def replace(found: re.Match[str]) -> str:
        line = first + text.count("\n", 0, found.start())
        if found["role"]:
            require_choice(page.place(line), "role", found["role"], ROLES)
            return ROLES[found["role"]](page, found["content"].strip(), line)
        if found["label"]:
            gap = "\n" if "\n" in found["display"] else " "
            tag = rf"\tag{{{page.equations[found['label']]}}}"
            return f"$${found['display'].rstrip()}{gap}{tag}{gap}$$"
        if found["foreign"]:
            raise LabError(f"{page.place(line)}: {found[0]!r}, a footnote or substitution, shows "
                           "raw in a notebook; write it out")
        return link(page, found, line) if found["target"] else found[0]
    return INLINE.sub(replace, text)


def link(page: Page, found: re.Match[str], line: int) -> str:
    """A Markdown link or image; one to a page leads to the published book.

    One to a file leads to the repository.
    """
    target, _, anchor = found["target"].partition("#")
    if found["bang"]:
        if not found["words"].strip():
            raise LabError(f"{page.place(line)}: the image has no text for those who cannot see "
                           "it; write ![text](...)")
        return f"![{found['words']}]({page.raw_link(found['target'], line)})"
    if re.match(r"[a-z]+:", target):
        return found[0]
    if not found["words"].strip():
        raise LabError(f"{page.place(line)}: the link to {found['target']} has no words; "
                       f"write [words]({found['target']})")
    if not target:
        return found["words"]
    file = page.find(target, line)
    address = page.book_link(file) if file.suffix == ".md" else page.raw_link(target, line)
    return f"[{found['words']}]({address}{'#' + anchor if anchor else ''})"


def split_target(content: str) -> tuple[str | None, str]:
    """Words and target of `words <target>`; None for the words of a bare `target`."""
    both = re.fullmatch(r"(.+?)\s*<([^<>]+)>", content, re.DOTALL)
    return (both[1], both[2]) if both else (None, content)


def equation_role(page: Page, content: str, line: int) -> str:
    """The number of a labelled formula, in brackets."""
    require_choice(page.place(line), "equation", content, page.equations)
    return f"({page.equations[content]})"


def reference_role(page: Page, content: str, line: int) -> str:
    """The words of a reference; of a bare label, the heading below it on this page."""
    words, label = split_target(content)
    heading = re.search(rf"^\({re.escape(label)}\)=\s*\n+#+\s+(.+?)\s*$", page.text, re.MULTILINE)
    if words is None and heading is None:
        raise LabError(f"{page.place(line)}: no heading of this page stands below ({label})=; "
                       f"give the reference words: {{ref}}`words <{label}>`")
    return words or inline(page, heading[1], line)


def document_role(page: Page, content: str, line: int) -> str:
    """A link to another page of the published book, by its title if no words are given."""
    words, target = split_target(content)
    file = page.find(target.removesuffix(".md"), line, suffix=".md")
    title = re.search(r"^#\s+(.+?)\s*$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return f"[{words or (title[1] if title else file.stem)}]({page.book_link(file)})"


def cite_role(page: Page, content: str, line: int, narrative: bool = False) -> str:
    """Author and year of each work, linked; in brackets unless the names belong to the sentence."""
    keys = [key.strip() for key in content.split(",")]
    for key in keys:
        require_choice(page.place(line), "citation", key, page.works)
    page.cited += [key for key in keys if key not in page.cited]
    works = "; ".join(citation(page.works[key], narrative) for key in keys)
    return works if narrative else f"({works})"


ROLES: dict[str, Callable[[Page, str, int], str]] = {
    "math": lambda page, content, line: f"${content}$",
    "eq": equation_role,
    "ref": reference_role,
    "doc": document_role,
    "term": lambda page, content, line: split_target(content)[0] or content,
    "api": lambda page, content, line: f"`{content}`",
    "cite": cite_role, "cite:p": cite_role,
    "cite:t": lambda page, content, line: cite_role(page, content, line, narrative=True),
}


def with_bibliography(page: Page, text: str) -> str:
    """`text` with the works the page has cited in the place of its bibliography."""
    if BIBLIOGRAPHY not in text:
        return text
    references = reference_list(page.works[key] for key in page.cited)
    return text.replace(BIBLIOGRAPHY, "\n".join(references))
