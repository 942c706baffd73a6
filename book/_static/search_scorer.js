// What a search of the book ranks first: the section that explains a word, before the glossary's sentence on it. Sphinx
// takes this object in place of its own, whose numbers are repeated here.
var Scorer = {
  score: ([docname, _title, _anchor, _descr, score]) => docname.startsWith("chapters/") ? 2 * score : score,
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: {0: 15, 1: 5, 2: -5},
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
