// What the site's pages do: a theme, a search, and the place in the contents. Without scripts, and
// without a kernel, all texts, links and contents are there.
(() => {
  const root = document.documentElement;
  const stored = (value) => {
    try { // a browser may refuse to keep anything for a page from the disk
      if (value) localStorage.setItem("theme", value);
      return localStorage.getItem("theme");
    } catch { return value; }
  };
  const system = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  if (stored()) root.dataset.theme = stored(); // before the page is drawn

  const one = (selector) => document.querySelector(selector);
  const make = (tag, text = "") => Object.assign(document.createElement(tag), { textContent: text });

  function theme() {
    const button = one(".theme");
    const show = () =>
      button.setAttribute("aria-pressed", (root.dataset.theme ?? system()) === "dark");
    button.addEventListener("click", () => {
      root.dataset.theme = (root.dataset.theme ?? system()) === "dark" ? "light" : "dark";
      stored(root.dataset.theme);
      show();
    });
    show();
    button.hidden = false;
  }

  // Search: every word must begin a word of a section, its heading or its page's title.
  const fold = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const pattern = (word) =>
    new RegExp(`(?<![\\p{L}\\p{N}])${word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")}`, "gu");
  const count = (text, expression) => (fold(text).match(expression) ?? []).length;

  function find(query) {
    const { pages, sections } = window.siteSections;
    const words = fold(query).split(/\s+/).filter((word) => /[\p{L}\p{N}]/u.test(word));
    const patterns = words.map(pattern);
    const found = [];
    for (const [number, anchor, heading, text] of sections) {
      const [file, title] = pages[number];
      let score = fold(heading) === words.join(" ") ? 100 : 0;
      const all = patterns.every((each) => {
        const inHeading = count(heading, each), inTitle = count(title, each);
        const inText = Math.min(count(text, each), 5);
        score += 20 * Math.min(inHeading, 1) + 3 * Math.min(inTitle, 1) + inText;
        return inHeading + inText > 0 || (inTitle > 0 && heading === title);
      });
      if (all && words.length)
        found.push({ address: `${file}#${anchor}`, title, heading, text, score, patterns });
    }
    return found.sort((a, b) => b.score - a.score);
  }

  // About 160 characters around the first place, with the words marked. Text stays text.
  function excerpt({ text, patterns }) {
    const line = make("small");
    const places = patterns.flatMap((each) => [...fold(text).matchAll(each)]);
    const start = Math.max(0, Math.min(...places.map((m) => m.index), text.length) - 50);
    if (start) line.append("… ");
    let at = start;
    const end = Math.min(text.length, start + 160);
    // Folding can change the length of a text; then nothing is marked.
    const same = fold(text).length === text.length;
    for (const match of same ? places.sort((a, b) => a.index - b.index) : []) {
      if (match.index < at || match.index + match[0].length > end) continue;
      line.append(text.slice(at, match.index), make("mark", match[0]));
      at = match.index + match[0].length;
      line.lastChild.textContent = text.slice(match.index, at);
    }
    line.append(text.slice(at, end));
    return line;
  }

  const LIMIT = 20;
  function search() {
    const [input, box] = [one("#search"), one("#found")];
    const [status, list] = [one("#found p"), one("#found ol")];
    let index;
    const loaded = () => (index ??= new Promise((done, failed) => {
      const script = make("script");
      script.src = "search-index.js";
      script.addEventListener("load", done);
      script.addEventListener("error", failed);
      document.head.append(script);
    }));
    async function show() {
      try {
        await loaded();
      } catch {
        index = undefined; // the next key tries again
        status.textContent = "The search cannot be loaded: search-index.js is missing.";
        list.replaceChildren();
        box.hidden = false;
        return;
      }
      const query = input.value.trim();
      const found = find(query);
      const places = found.length === 1 ? "1 place" : `${found.length} places`;
      const first = found.length > LIMIT ? `, the first ${LIMIT}` : "";
      status.textContent = found.length ? `${places}${first}` : `Nothing found for “${query}”.`;
      list.replaceChildren(...found.slice(0, LIMIT).map((each) => {
        const [item, link] = [make("li"), make("a")];
        link.href = each.address;
        link.addEventListener("click", () => { box.hidden = true; });
        link.append(make("b", each.heading));
        if (each.heading !== each.title) link.append(` – ${each.title}`);
        link.append(make("br"), excerpt(each));
        item.append(link);
        return item;
      }));
      box.hidden = !query;
    }
    input.addEventListener("input", show);
    input.addEventListener("focus", () => { if (input.value.trim()) show(); });
    document.addEventListener("keydown", (event) => {
      const links = [input, ...list.querySelectorAll("a")];
      const place = links.indexOf(document.activeElement);
      const typing = event.target.closest("input, textarea, select, [contenteditable]");
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        input.focus();
      } else if (event.key === "Escape" && !box.hidden) {
        box.hidden = true;
        input.focus();
      } else if (place >= 0 && !box.hidden && ["ArrowDown", "ArrowUp"].includes(event.key)) {
        event.preventDefault();
        links[Math.max(0, place + (event.key === "ArrowDown" ? 1 : -1))]?.focus();
      } else if (event.key === "Enter" && place === 0 && !box.hidden && links[1]) links[1].click();
    });
    document.addEventListener("focusin", (event) => {
      if (!event.target.closest("search")) box.hidden = true;
    });
    document.addEventListener("click", (event) => {
      if (!event.target.closest("search")) box.hidden = true;
    });
    one("search").hidden = false;
  }

  // The section on the screen is marked in the contents.
  function place() {
    const links = [...document.querySelectorAll(".toc a")];
    const targets = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));
    function mark() {
      const atEnd = scrollY > 0 && scrollY + innerHeight >= root.scrollHeight - 2;
      const above = targets.filter((target) => target.getBoundingClientRect().top < 120).length;
      const passed = atEnd ? targets.length : above;
      links.forEach((link, number) => {
        if (number === passed - 1) link.setAttribute("aria-current", "location");
        else link.removeAttribute("aria-current");
      });
    }
    if (links.length) {
      addEventListener("scroll", mark, { passive: true });
      mark();
    }
    one("#menu").addEventListener("click", (event) => {
      if (event.target.closest("a") && one("#menu").matches(":popover-open"))
        one("#menu").hidePopover();
    });
  }

  // What scrolls sideways can be reached by keyboard.
  function reachable() {
    const boxes = "main :is(pre, table, .jp-OutputArea-output, .jp-OutputArea-output > div)";
    for (const box of document.querySelectorAll(boxes)) {
      const scrolls = box.scrollWidth > box.clientWidth + 1
        && ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
      if (scrolls) box.tabIndex = 0;
      else if (box.tabIndex === 0) box.removeAttribute("tabindex");
    }
  }

  addEventListener("DOMContentLoaded", () => {
    theme();
    search();
    place();
    reachable();
    addEventListener("resize", reachable);
  });
})();
