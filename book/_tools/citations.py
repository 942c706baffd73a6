"""Works of `book/references.bib` as links and as a reference list in plain Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pybtex.database import Entry, parse_file
from pybtex.plugin import find_plugin
from pybtex.richtext import Text

from lightvit_lab.errors import LabError


def read_works(path: Path) -> dict[str, Entry]:
    """The entries of a BibTeX file by key; none without a file. Raises LabError if unreadable."""
    if not path.is_file():
        return {}
    try:
        return dict(parse_file(str(path), bib_format="bibtex").entries)
    except Exception as error:   # pybtex's own errors share no narrower base with its tokenizer's
        raise LabError(f"{path}: cannot be read as BibTeX: {error}") from error


def citation(entry: Entry, narrative: bool = False) -> str:
    """`[Author et al., 2021](address)`; `[Author et al. (2021)](address)` if `narrative`."""
    year = entry.fields.get("year", "n.d.")
    words = f"{authors(entry)} ({year})" if narrative else f"{authors(entry)}, {year}"
    address = address_of(entry)
    return f"[{words}]({address})" if address else words


def authors(entry: Entry) -> str:
    """Family names as a citation shows them: "A", "A and B", "A et al."; the key without a name."""
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [" ".join(map(str, person.rich_prelast_names + person.rich_last_names))
             for person in people]
    names = [name.replace("\N{NO-BREAK SPACE}", " ") for name in names]
    if len(names) > 2:
        return f"{names[0]} et al."
    return " and ".join(names) or plain(entry.key)


def address_of(entry: Entry) -> str | None:
    """Where the work can be read: its url, its arXiv page, or its DOI."""
    fields = entry.fields
    if "url" in fields:
        return fields["url"]
    if "eprint" in fields:
        return f"https://arxiv.org/abs/{fields['eprint']}"
    return f"https://doi.org/{fields['doi']}" if "doi" in fields else None


def plain(latex: str) -> str:
    """A BibTeX field with its LaTeX accents and braces resolved."""
    return str(Text.from_latex(latex))


def reference_list(entries: Iterable[Entry]) -> list[str]:
    """One Markdown list item a work, as pybtex's plain style writes it."""
    style = find_plugin("pybtex.style.formatting", "plain")()
    backend = find_plugin("pybtex.backends", "markdown")()
    return ["- " + " ".join(work.text.render(backend).split())
            for work in style.format_entries(list(entries))]
