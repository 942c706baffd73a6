"""What the book knows of its pages, read from the tree: title, weeks of the class plan, lectures.

A page holds it in its own front matter, under `lesson`; a page that is planned and not written yet
has it in book/_ext/parts.yml. The map, the plan for a class and the counts of pages are made of
this, so a new page edits none of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightvit_lab.errors import LabError
from lightvit_lab.exercises import all_exercises

PARTS = Path(__file__).parents[1] / "_ext" / "parts.yml"
FORM = ("write\nlesson:\n  weeks:\n    8: The question of week 8?\n"
        "  lectures: |\n    * 50 minutes: ...")


@dataclass(frozen=True)
class Lesson:
    """One page of the book, written or planned.

    `page` is "<part>/<stem>"; `weeks` gives for each week the question to begin with.
    """

    page: str
    title: str
    weeks: dict[int, str]
    lectures: str
    written: bool

    @property
    def question(self) -> str:
        """What the page asks."""
        return next(iter(self.weeks.values()))


def parts() -> list[dict[str, Any]]:
    """Parts of the book in reading order: `part` (folder), `title`, `about`, `planned` pages."""
    return yaml.safe_load(PARTS.read_text(encoding="utf-8"))


def in_reading_order(root: Path) -> list[Path]:
    """The pages of chapters/ that the table of contents names and that are there, in its order."""
    contents = re.findall(r"\bchapters/\w+/\w+", (root / "_toc.yml").read_text(encoding="utf-8"))
    return [path for name in contents if (path := root / f"{name}.md").is_file()]


def read(page: Path) -> Lesson:
    """The lesson in the front matter of a written page.

    Raises LabError where its front matter has no `lesson` of the right form.
    """
    lesson = _front(page)
    title = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    weeks = lesson.get("weeks")
    sound = isinstance(weeks, dict) and weeks and all(map(_is_week, weeks.items()))
    if not title or not sound:
        raise LabError(f"{page}: a page says in its front matter in which week of a class it is "
                       f"read, and has a title; {FORM}")
    name = "/".join(page.with_suffix("").parts[-2:])
    return Lesson(name, title[1], weeks, str(lesson.get("lectures", "")).strip(), written=True)


def words_to_find(page: Path) -> dict[str, list[str]]:
    """Section (its anchor) -> words that lead there in the book's search: `find` of the lesson.

    Raises LabError where it has another form.
    """
    found = _front(page).get("find", {})
    lists = list(found.values()) if isinstance(found, dict) else [None]
    if not all(isinstance(words, list) and all(map(_is_text, words)) for words in lists):
        raise LabError(f"{page}: write what a search shall find as\nlesson:\n  find:\n"
                       "    anchor-of-a-section: [a word, another]")
    return found


def _is_text(word: Any) -> bool:
    return isinstance(word, str)


def _front(page: Path) -> dict[str, Any]:
    """What stands under `lesson` in a page's front matter, {} where nothing does."""
    front = re.match(r"---\n(.*?)\n---\n", page.read_text(encoding="utf-8"), re.DOTALL)
    try:
        lesson = (yaml.safe_load(front[1]) or {}).get("lesson") if front else None
    except yaml.YAMLError as error:
        raise LabError(f"{page}: its front matter cannot be read: {error}") from error
    if not isinstance(lesson, dict | None):
        raise LabError(f"{page}: its lesson is {lesson!r}; {FORM}")
    return lesson or {}


def lessons(root: Path) -> list[Lesson]:
    """The written pages, in reading order, then the planned ones that nobody has written yet."""
    written = [read(page) for page in in_reading_order(root)]
    names = {lesson.page for lesson in written}
    planned = [Lesson(f"{part['part']}/{page['stem']}", page["title"], page["weeks"], "", False)
               for part in parts() for page in part["planned"]]
    return written + [lesson for lesson in planned if lesson.page not in names]


def counts(root: Path) -> dict[str, int]:
    """How many pages are written, how many the map has, how many exercises are posed."""
    every = lessons(root)
    return {
        "pages": sum(lesson.written for lesson in every),
        "all pages": len(every),
        "exercises": sum(1 for _ in all_exercises()),
    }


def _is_week(entry: tuple[Any, Any]) -> bool:
    week, question = entry
    return isinstance(week, int) and week >= 1 and isinstance(question, str)
