"""The page of the library's names: each once, each with the section it is from or a word that there is none."""

import functools
import inspect
from pathlib import Path
from types import SimpleNamespace

import forked
import lab_api
import lessons
import mentions
import public_names
import pytest
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from mentions import Mention, Section
from sphinx.cmd.build import main as sphinx_build

import lightvit_lab
from lightvit_lab import training

ROOT = Path(lab_api.__file__).parents[2]
PAGES = lessons.in_reading_order(ROOT)
WEIGHT = 150_000        # of the page without what the theme puts around it, which is about 50 kB

# Chapters are read for what they say, and their headings alone are parsed: nothing is run.
CONF = """\
import sys
sys.path[:0] = [{ext!r}, {tools!r}]
extensions = ["myst_parser", "lab_api"]
root_doc = "book/api"
suppress_warnings = ["toc.not_included"]
import mentions

def headings(app, name, source):
    if name.startswith("chapters/"):
        fences, kept = [], []
        for line in source[0].splitlines():
            if fence := mentions.FENCE.match(line):
                mentions._turn(fences, fence[1])
            elif mentions.HEADING.match(line) and not fences:
                kept += [line, ""]
        source[0] = "\\n".join(["---", "orphan: true", "---", *kept])

def setup(app):
    app.connect("source-read", headings)
"""


def found():
    """Each public name and where it is from: made by the first test that asks, not by each process that collects them."""
    return lab_api.found_in(ROOT)


def build(root):
    """The page in a book of its own, beside the chapters; what the build says, and the parsed page."""
    folders = {"ext": str(ROOT / "book" / "_ext"), "tools": str(ROOT / "book" / "_tools")}
    (root / "conf.py").write_text(CONF.format(**folders))
    out = root / "_build"
    status, said = forked.run(lambda: sphinx_build(["-q", "-b", "html", str(root), str(out)]), root / "said.txt")
    return status, said, out


def lay(root, chapters=True):
    (root / "book").mkdir()
    (root / "book" / "api.md").write_text((ROOT / "book" / "api.md").read_text(encoding="utf-8"), encoding="utf-8")
    (root / "_toc.yml").write_text((ROOT / "_toc.yml").read_text(encoding="utf-8") if chapters else "")
    for page in PAGES if chapters else ():
        copy = root / page.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the built page, and the page."""
    status, said, out = build(lay(tmp_path_factory.mktemp("book")))
    assert status == 0 and said == "", said
    return out, BeautifulSoup((out / "book/api.html").read_text(encoding="utf-8"), "html.parser")


# --- what is public

def test_every_name_of_every_face_is_there_once():
    paths = [path for name in found() for path in name.paths]
    assert len(paths) == len(set(paths)) and len({name.anchor for name in found()}) == len(found()) > 300
    for face in ("training", "dynamic.token_merging", "distillation", "figures", "exercises"):
        module = public_names.faces()[face]
        assert {f"{face}.{name}" for name in module.__all__} <= set(paths)
    assert {"components.PatchEmbedding", "compression.pruning.RIDGE", "errors.LabError", "models.create_model",
            "models.timm_parts.grid", "storage.write_json"} <= set(paths)


def test_every_room_of_the_library_is_a_room_of_the_page_but_the_command():
    there = {path.stem for path in Path(lightvit_lab.__file__).parent.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {name.room for name in found()} == there - {"__init__", "__pycache__", "cli"}


def test_what_a_page_takes_from_deeper_in_a_room_is_public_too():
    paths = {name.path for name in found()}
    assert {"experiments.results.load", "models.lightvit.BiAttn", "explain.sanity.rank_correlation"} <= paths


def test_what_two_faces_offer_is_listed_in_its_own_room_by_the_shorter_path():
    by_path = {name.path: name for name in found()}
    assert by_path["distillation.store_logits"].paths == (
        "distillation.store_logits", "distillation.response_distillation.store_logits")
    assert set(by_path["runtime.cache"].paths) == {"runtime.cache", "data.cache"} and "data.cache" not in by_path


def test_what_timm_is_given_and_what_other_rooms_lend_is_not_public():
    paths = {path for name in found() for path in name.paths}
    assert not {"models.lab_vit", "models.LabError", "training.Tensor", "storage.TYPE_CHECKING"} & paths
    assert not any(path.startswith("exercises.answers") for path in paths)


def test_every_name_has_a_sentence_and_a_signature_that_is_not_long():
    for name in found():
        assert len(name.sentence.split()) >= 2 and name.sentence.endswith((".", "?", ")")), name.path
        assert len(name.signature) <= len(name.name) + public_names.WIDTH + 6, name.path


def test_what_holds_no_docstring_says_what_it_is():
    said = {name.path: name.sentence for name in found()}
    assert said["dynamic.token_merging.MATCHINGS"] == "A table with the entries `'bipartite'`, `'clusters'`."
    assert said["data.SPLITS"] == "The values `'train'`, `'val'`, `'test'`."
    assert said["compression.pruning.RIDGE"] == "A number, `0.001`."
    assert said["dynamic.early_exit.Rule"] == "A kind of value, `Confidence | Entropy | Patience`."


@pytest.mark.parametrize(("text", "first"), [
    ("One. Two.", "One."), ("One of two\nlines. More.", "One of two lines."), ("No end\n\nNext.", "No end"),
    ("As in He et al. 2015. More.", "As in He et al. 2015."), ("1, 2, 4, ... images. More.", "1, 2, 4, ... images."),
    ("Is it? Yes.", "Is it?"), ("(A sentence.) More.", "(A sentence.)")])
def test_the_first_sentence_of_a_docstring(text, first):
    assert public_names.first_sentence(text) == first


def test_a_signature_has_defaults_and_no_types_and_is_cut_where_it_gets_long():
    def function(model: int, *rest, r: float = 0.5, mode="a", how=dict(a=1, b=2, c=3, d=4), **more):
        """One."""

    assert public_names.signature(function) == "(model, *rest, r=0.5, mode='a', how=…, **more)"
    assert public_names.signature(lambda a, *, b: 0) == "(a, *, b)"
    long = public_names.signature(training.fit)
    assert long.startswith("(model, data, epochs=1, lr=0.001") and long.endswith(", …)") and len(long) <= 100
    assert len(inspect.signature(training.fit).parameters) > long.count(",")


# --- where it is from

PAGE = '''\
---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A page

Here `training.fit` means nothing: nothing is imported yet.

```{code-cell} ipython3
from lightvit_lab import data, training
from lightvit_lab.dynamic import token_merging as merging
from lightvit_lab.figures import show
```

## The first `code` and $x$

In `training.evaluate(model, pictures)` a name is named, in `evaluate` alone it is not.

```python
# ## no heading
training.wilson_interval(1, 2)
```

```{code-cell} ipython3
model = merging.merge_tokens(None, r=8)
show(model)
```

:::{admonition} A box
`merging.spread_r` stands here.
:::

### A deeper one

```{code-cell} ipython3
def source_map(model):
    return 1

assert merging.merge_tokens(model, r=4) == 1
training.fit(model, data.load("shapes"))
```

```{code-cell} ipython3
%matplotlib inline
training.mean_interval([1, 2])
```
'''
KNOWN = {"training.fit", "training.evaluate", "training.wilson_interval", "training.mean_interval", "data.load", "figures.show",
         "dynamic.token_merging.merge_tokens", "dynamic.token_merging.source_map", "dynamic.token_merging.spread_r"}
OWN = {path for path in KNOWN if path.startswith("dynamic")}


def test_a_page_worked_through_by_hand():
    first, deeper = Section("part/page", "The first code and x", "the-first-code-and-x"), Section(
        "part/page", "A deeper one", "a-deeper-one")
    found = mentions.mentions("part/page", PAGE, KNOWN, OWN)
    assert set(found) == {
        Mention("training.evaluate", "named", first), Mention("figures.show", "used", first),
        Mention("dynamic.token_merging.merge_tokens", "used", first), Mention("dynamic.token_merging.spread_r", "named", first),
        Mention("dynamic.token_merging.source_map", "derived", deeper), Mention("training.fit", "used", deeper),
        Mention("dynamic.token_merging.merge_tokens", "derived", deeper), Mention("data.load", "used", deeper)}


def test_on_a_page_that_is_not_its_own_a_name_is_used_and_not_derived():
    kinds = {one.kind for one in mentions.mentions("part/page", PAGE, KNOWN) if "merge_tokens" in one.path}
    assert kinds == {"used"}


def test_of_all_mentions_those_on_the_own_page_come_first_then_what_derives_then_the_earlier():
    early, late, own = (Mention("a.b", kind, Section(page, "", page)) for kind, page in (
        ("used", "p/early"), ("used", "p/late"), ("named", "p/own")))
    derived = Mention("a.b", "derived", Section("p/late", "", "x"))
    assert mentions.best([early, late]) is early and mentions.best([early, late, derived]) is derived
    assert mentions.best([early, derived, own], home="p/own") is own and mentions.best([]) is None


@pytest.mark.parametrize(("path", "kind", "section"), [
    ("dynamic.token_merging.bipartite_soft_matching", "derived", "dynamic/token_merging#who-is-like-whom"),
    ("compression.pruning.prune_mlp", "derived", "compression/pruning#take-the-neuron-out"),
    ("components.Attention", "derived", "foundations/vision_transformer#attention-every-token-asks-all-others"),
    ("distillation.response_distillation.soft_target_loss", "derived",
     "distillation/response_distillation#the-loss-and-why-it-has-a-square"),
    ("profiling.roofline", "used", "foundations/measuring_efficiency#the-roof-of-your-machine")])
def test_what_we_know_of_some_names(path, kind, section):
    place = {name.path: place for name, place in found().items()}[path]
    assert (place.kind, f"{place.section.page}#{place.section.anchor}") == (kind, section)


# --- the page

def test_each_name_stands_on_the_page_once_with_a_section_that_is_there_or_the_word_that_there_is_none(built):
    out, page = built
    entries = {entry["id"]: entry for entry in page.select(".lab-api dl > div")}
    assert list(entries) == [name.anchor for name in found()]
    for name, place in found().items():
        entry = entries[name.anchor]
        assert entry.dt.get_text() == name.signature
        text, links = entry.dd.get_text(), [link["href"] for link in entry.select("a")]
        assert bool(place) == any(verb in text for verb in lab_api.VERBS.values())
        assert bool(place) != (lab_api.NOWHERE in text), name.path
        assert len(links) == 1 or not place and not name.home
        for link in links:
            address, _, anchor = link.partition("#")
            assert not address or anchor or not place
            target = page if not address else _parsed(out / "book" / address)
            assert not anchor or len(target.find_all(id=anchor)) == 1, link


@functools.cache
def _parsed(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def test_a_class_that_a_function_returns_leads_to_that_function(built):
    _, page = built
    assert page.find(id="training-History").dd.a["href"] == "#training-fit"


def test_the_page_is_light_its_rooms_are_sections_and_their_names_are_folded(built):
    out, page = built
    assert (out / "book/api.html").stat().st_size < WEIGHT
    rooms = [heading.get_text().rstrip("¶") for heading in page.select("h2")]
    assert rooms == sorted({name.room for name in found()}) and len(page.select("details.lab-api:not([open])")) == len(rooms)


def test_the_search_knows_the_names_and_none_comes_before_what_a_query_means(built):
    out, _ = built
    index = (out / "searchindex.js").read_text(encoding="utf-8")
    assert '"merge_tokens"' in index and '"source_map"' in index
    queries = yaml.safe_load((ROOT / "tests/book/search_queries.yml").read_text(encoding="utf-8"))
    first = {word.lower() for _, word, _, main, _ in map(lab_api.index_entry, found()) if main}
    assert len(first) > 100 and not first & set(queries)
    for query, section in queries.items():
        page, _, anchor = section.partition("#")
        if any(query in word for word in first):        # then the words that the page gives must say it whole
            assert query in map(str.lower, lessons.words_to_find(ROOT / "chapters" / f"{page}.md")[anchor])


def test_without_chapters_no_name_has_a_section_and_the_role_links_to_one_name_by_the_end_of_its_path(tmp_path):
    root = lay(tmp_path, chapters=False)
    (root / "one.md").write_text("---\norphan: true\n---\n\n# One\n\n{api}`token_merging.merge_tokens`, {api}`training.History`\n")
    (root / "two.md").write_text("---\norphan: true\n---\n\n# Two\n\n{api}`load`, {api}`nothing`\n")
    _, said, out = build(root)
    entries = _parsed(out / "book/api.html").select(".lab-api dd")
    assert len(entries) > 300 and all(lab_api.NOWHERE in entry.get_text() for entry in entries)
    assert [link["href"] for link in _parsed(out / "one.html").select("section a.reference")] == [
        "book/api.html#dynamic-token_merging-merge_tokens", "book/api.html#training-History"]
    assert "'load' is checkpoint.load, data.load" in said and "'nothing' is none of the public names" in said


def test_a_link_to_a_section_that_is_gone_is_a_warning_that_names_it(monkeypatch):
    said = []
    monkeypatch.setattr(lab_api.logger, "warning", lambda text, *words, **where: said.append(text % words))
    there = nodes.paragraph("", "", nodes.reference("", "", anchorname=""), nodes.reference("", "", anchorname="#here"))
    links = {("chapters/a", "here"), ("chapters/a", ""), ("chapters/a", "gone"), ("chapters/b", "")}
    lab_api.check_links(None, SimpleNamespace(metadata={lab_api.PAGE: {"api": links}}, tocs={"chapters/a": there}))
    assert said == ["public-names: chapters/a has no section 'gone'", "public-names: chapters/b has no section ''"]
