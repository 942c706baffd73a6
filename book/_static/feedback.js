// "Was something unclear?" at the end of each page and section: a ready text to copy, with page, section, address and
// commit. Nothing is sent and nothing is kept. lab_feedback.py puts the sentence that stands here without scripts.
(() => {
  "use strict";
  const WHOLE = "The whole page";
  let box, form, opener = null;

  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    made.append(...children);
    return made;
  };
  const textOf = (heading) => [...heading.childNodes]
    .filter((node) => !(node.matches && node.matches(".headerlink, .section-number")))
    .map((node) => node.textContent).join("").replace(/\s+/g, " ").trim();

  // --- what the text says

  function address(anchor) {                   // of a book on disk no folder of the reader's own machine
    const page = location.protocol === "file:" ? box.dataset.page : location.href.split(/[?#]/)[0];
    return anchor ? `${page}#${anchor}` : page;
  }
  function text() {
    const { select, words, title } = form;
    const [section] = select.selectedOptions, { version = "", commit } = box.dataset;
    return [`Page: ${title}`, `Section: ${section.textContent}`, `Address: ${address(section.value)}`,
      `Book: ${version ? `version ${version}, ` : ""}commit ${commit}`, "", "What was unclear:",
      words.value.trim() || "(write it here)"].join("\n");
  }
  function refresh() {
    form.ready.value = text();
    form.ready.style.height = "0";             // then as high as its lines, which wrap on a phone
    form.ready.style.height = `${form.ready.scrollHeight + 2}px`;
    form.said.textContent = "";
    const subject = encodeURIComponent(`Unclear: ${form.title}`), body = encodeURIComponent(text());
    if (form.mail) form.mail.href = `mailto:${box.dataset.mail}?subject=${subject}&body=${body}`;
    if (form.issue) form.issue.href = `${form.issue.dataset.start}?title=${subject}&body=${body}`;
  }
  async function copy() {
    form.ready.select();
    let done = false;
    try { await navigator.clipboard.writeText(text()); done = true; } catch (error) {
      try { done = document.execCommand("copy"); } catch (other) { done = false; }
    }
    form.said.textContent = done ? "Copied. Paste it into a mail or a message."
      : "The browser does not copy by itself. The text is selected: press Ctrl+C (on a Mac, Cmd+C).";
  }

  // --- the form, one for the whole page: it moves to the question that was pressed

  function makeForm(sections) {
    const select = element("select", {}, element("option", { value: "" }, WHOLE),
      ...sections.map(({ anchor, heading }) => element("option", { value: anchor }, heading)));
    const words = element("textarea", { rows: "3" });
    const ready = element("textarea", { readonly: "" });
    const said = element("p", { role: "status" });
    const copyButton = element("button", { type: "button" }, "Copy the text");
    const ways = element("p", { class: "lab-feedback-ways" }, copyButton);
    const whole = element("div", { class: "lab-feedback-form", role: "group", "aria-label": "Feedback", hidden: "" },
      element("label", {}, "Which section?", select), element("label", {}, "What was unclear?", words),
      element("label", {}, "The text to send", ready), ways, said,
      element("p", {}, `Nothing is sent from this page. Copy the text and send it to the person who gave you this book${
        box.dataset.mail ? ", or use the mail link" : ""}. An issue needs an account.`));
    form = Object.assign(whole, { select, words, ready, said, title: textOf(document.querySelector(".bd-article h1")) });
    if (box.dataset.mail) ways.append(form.mail = element("a", {}, "Write a mail"));
    const issues = document.querySelector("a.btn-source-issues-button");
    if (issues) ways.append(form.issue = element("a", { "data-start": issues.href.split("?")[0] }, "Open an issue"));
    select.addEventListener("change", refresh);
    words.addEventListener("input", refresh);
    copyButton.addEventListener("click", copy);
    whole.addEventListener("keydown", (event) => { if (event.key === "Escape") close(true); });
  }
  function close(back) {
    if (!opener) return;
    opener.setAttribute("aria-expanded", "false");
    if (back) opener.focus();
    opener = null;
    form.hidden = true;
  }
  function open(button, anchor) {
    close(false);
    opener = button;
    button.setAttribute("aria-expanded", "true");
    button.parentElement.after(form);
    form.select.value = anchor;
    form.hidden = false;
    refresh();
    form.words.focus();
  }
  function question(words, anchor) {
    const button = element("button", { type: "button", "aria-expanded": "false" }, words);
    button.addEventListener("click", () => (opener === button ? close(true) : open(button, anchor)));
    return element("p", { class: "lab-feedback-ask" }, button);
  }

  addEventListener("DOMContentLoaded", () => {
    box = document.querySelector(".lab-feedback");
    if (!box || !document.querySelector(".bd-article h1")) return;
    const sections = [...document.querySelectorAll(".bd-article > section > section")]
      .map((section) => ({ section, anchor: section.id, heading: section.querySelector("h2") }))
      .filter(({ anchor, heading }) => anchor && heading).map((one) => ({ ...one, heading: textOf(one.heading) }));
    makeForm(sections);
    box.replaceChildren(question("Was something unclear on this page?", ""));
    if (!box.dataset.sections) return;
    sections.forEach(({ section, anchor }) => {
      const fold = section.querySelector(":scope > details.lab-further");
      (fold || section).append(question("Was something unclear in this section?", anchor));
    });
  });
})();
