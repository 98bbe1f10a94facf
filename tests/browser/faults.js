// What a page can show wrongly. Each function returns a list of texts: "cell 5: what is wrong".
// They read JupyterLab's page and the pages of `make run`, both while everything is unfolded.
window.faults = (() => {
  const CELL = ".jp-Cell";
  const SHOWN = ".jp-OutputArea-output, .jp-MarkdownOutput";

  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const short = (text) => text.replace(/\s+/g, " ").trim().slice(0, 160);
  const visible = (element) => element.checkVisibility() && element.getClientRects().length > 0;

  function at(element, text) {
    const number = all(CELL).indexOf(element.closest(CELL)); // as in the file, from 0
    return `cell ${number}: ${text}`;
  }

  function texts(root) {
    const found = [];
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const parent = walker.currentNode.parentElement;
      if (/\S/.test(walker.currentNode.data) && !parent.closest("style, script, select, .katex"))
        if (visible(parent)) found.push(walker.currentNode);
    }
    return found;
  }

  const shown = () => all(SHOWN).filter(visible);

  // JupyterLab shows what a kernel prints on stderr, and also an error, in a red box.
  function redBoxes() {
    const boxes = all('[data-mime-type$="stderr"], [data-mime-type$="error"]');
    return boxes.filter(visible).map((box) => at(box, short(box.innerText)));
  }

  // A field's scrollWidth can count the arrows that Chromium shows when the mouse is over it.
  // So the width of its text is measured.
  function hidesPart(element, style) {
    if (!["text", "search", "number"].includes(element.type))
      return element.scrollWidth > element.clientWidth + 1;
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = style.font;
    const padding = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
    return pen.measureText(element.value).width > element.clientWidth - padding + 1;
  }

  // Wider than the place that it has, and no scroll bar to reach the rest.
  function cut() {
    const found = [];
    for (const output of shown()) {
      const right = output.closest(CELL).getBoundingClientRect().right + 1;
      for (const element of [output, ...all("*", output)]) {
        const style = getComputedStyle(element);
        const hides = ["hidden", "clip"].includes(style.overflowX);
        const forScreenReaders = element.clientWidth <= 1;
        if (hides && !forScreenReaders && hidesPart(element, style))
          found.push(at(element, `<${element.localName}> hides part: ${short(element.innerText)}`));
        if (rightEdge(element) > right && !scrolls(element, output)) {
          found.push(at(element, `<${element.localName}> too wide: ${short(element.innerText)}`));
          break;
        }
      }
    }
    return found;
  }

  // Of an element and of what leaves it visibly.
  function rightEdge(element) {
    const { left, right } = element.getBoundingClientRect();
    const leaves = getComputedStyle(element).overflowX === "visible";
    return leaves ? Math.max(right, left + element.scrollWidth) : right;
  }

  function scrolls(element, root) {
    for (let box = element.parentElement; box; box = box.parentElement) {
      if (["auto", "scroll"].includes(getComputedStyle(box).overflowX)) return true;
      if (box === root) return false;
    }
    return false;
  }

  // What makes the whole page scroll sideways.
  function sideways() {
    const page = document.querySelector(".jp-WindowedPanel-outer") ?? document.scrollingElement;
    if (page.scrollWidth <= page.clientWidth) return [];
    const right = page.getBoundingClientRect().left + page.clientWidth;
    const wide = all(CELL).map((cell) =>
      all("*", cell).find((e) => visible(e) && rightEdge(e) > right + 1 && !scrolls(e, cell)));
    const named = wide.filter(Boolean).map((element) => at(element, short(element.innerText)));
    return named.length ? named : ["the page scrolls sideways"];
  }

  // A word on two lines although one line has room for it.
  function brokenWords() {
    const found = [];
    for (const output of shown())
      for (const text of texts(output)) {
        if (text.parentElement.closest("svg")) continue;
        let block = text.parentElement;
        while (getComputedStyle(block).display.startsWith("inline")) block = block.parentElement;
        for (const word of text.data.matchAll(/[\p{Script=Latin}\p{Nd}]{3,}/gu)) {
          const range = document.createRange();
          range.setStart(text, word.index);
          range.setEnd(text, word.index + word[0].length);
          const parts = [...range.getClientRects()].filter((part) => part.width > 0);
          const lines = new Set(parts.map((part) => Math.round(part.top)));
          const width = parts.reduce((sum, part) => sum + part.width, 0);
          if (lines.size > 1 && width < output.clientWidth - 60)
            found.push(at(block, `"${word[0]}" in <${block.localName}>`));
        }
      }
    return found;
  }

  const known = new Map();
  function rgba(color) {
    if (known.has(color)) return known.get(color);
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    known.set(color, [r, g, b, a / 255]);
    return known.get(color);
  }
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3]));
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((c) => {
      const s = c / 255;
      return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  // WCAG 2.2, "contrast ratio".
  function ratio(a, b) {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light + 0.05) / (dark + 0.05);
  }

  function background(element) {
    const layers = [];
    for (let box = element; box; box = box.parentElement) {
      const color = rgba(getComputedStyle(box).backgroundColor);
      if (color[3] > 0) layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255]);
  }

  // Text that hardly differs from what is behind it: WCAG 2.2, level AA, 4.5 for text and 3 for a
  // sign. Left out are text on a shape of an SVG, and code, whose colors are JupyterLab's.
  function faint() {
    const found = [];
    for (const output of shown())
      for (const text of texts(output)) {
        const element = text.parentElement;
        if (element.closest("svg, .jp-MarkdownOutput pre")) continue;
        const behind = background(element);
        const color = over(rgba(getComputedStyle(element).color), behind);
        const contrast = ratio(color, behind);
        const least = /[\p{L}\p{N}]/u.test(text.data) ? 4.5 : 3;
        if (contrast < least)
          found.push(at(element, `${contrast.toFixed(1)} : 1 in "${short(text.data)}"`));
      }
    return found;
  }

  // Pictures that are broken, of no size, or of one color on this page's background.
  function emptyFigures() {
    const found = [];
    for (const image of all(".jp-OutputArea-output img").filter(visible)) {
      if (!image.naturalWidth || image.clientWidth < 8) {
        found.push(at(image, "a picture is empty"));
        continue;
      }
      const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
      const drawing = canvas.getContext("2d");
      drawing.fillStyle = `rgb(${background(image).join(" ")})`;
      drawing.fillRect(0, 0, canvas.width, canvas.height);
      drawing.drawImage(image, 0, 0);
      const { data } = drawing.getImageData(0, 0, canvas.width, canvas.height);
      let [lowest, highest] = [1, 0];
      for (let i = 0; i < data.length; i += 4) {
        const value = luminance([data[i], data[i + 1], data[i + 2]]);
        [lowest, highest] = [Math.min(lowest, value), Math.max(highest, value)];
      }
      if ((highest + 0.05) / (lowest + 0.05) < 3) found.push(at(image, "a picture cannot be seen"));
    }
    return found;
  }

  // JupyterLab also makes links of printed addresses. Of those only `data:` is of interest: nobody
  // can open it.
  function links() {
    const written = ".jp-RenderedHTMLCommon a[href]:not(.jp-InternalAnchorLink, .anchor-link)";
    const anchors = all(`${written}, .jp-OutputArea-output a[href^="data:"]`);
    return anchors.map((anchor) => [at(anchor, short(anchor.innerText)), anchor.href]);
  }

  return { redBoxes, cut, sideways, brokenWords, faint, emptyFigures, links };
})();
