(root, data, { make, menu, status, visible }) => {
  const names = Object.keys(data.texts);
  const kinds = Object.keys(data.texts[names[0]].tokens);
  const text = menu("text", names, () => show());
  const kind = menu("tokenizer", kinds, () => show());
  const label = make("label");
  const ids = make("input", undefined, { type: "checkbox" });
  ids.addEventListener("change", () => show());
  label.append(ids, " ids");
  const tokens = make("p", undefined, { class: "kx-tokens" });
  const note = status();
  const all = make("details");
  const sides = make("div", undefined, { class: "kx-rows" });
  all.append(make("summary", "All texts side by side"), sides);
  root.append(text.element, kind.element, label, tokens, note, all);

  // Tokens of the chosen tokenizer (orange) and of the next one (gray), fewest first.
  const compare = () => {
    const other = kinds[(kinds.indexOf(kind.value) + 1) % kinds.length];
    const shown = [kind.value, ...(other === kind.value ? [] : [other])];
    const count = (name, each) => data.texts[name].tokens[each].length;
    const most = Math.max(1, ...names.flatMap(name => shown.map(each => count(name, each))));
    sides.replaceChildren(make("b", "text"), ...shown.map(each => make("b", each)),
      ...(shown.length === 1 ? [make("span")] : []), make("b", "tokens"));
    const sorted = [...names].sort((a, b) => count(a, kind.value) - count(b, kind.value));
    for (const name of sorted) {
      const bar = make("div", undefined, { class: "kx-bar" });
      shown.forEach((each, place) => {
        const part = make("i", undefined, { class: place ? "kx-raw" : "kx-now" });
        part.style.width = `${100 * count(name, each) / most}%`;
        bar.append(part);
      });
      const numbers = shown.map(each => make("span", String(count(name, each)), {
        class: "kx-number",
      }));
      sides.append(make("span", name), ...numbers,
        ...(shown.length === 1 ? [make("span")] : []), bar);
    }
  };

  const show = () => {
    const chosen = data.texts[text.value];
    const list = chosen.tokens[kind.value];
    tokens.replaceChildren(...list.flatMap((token, place) => {
      const span = make("span", visible(token.text), {
        class: `kx-token kx-${token.kind} kx-color-${place % 4}`, title: `id ${token.id}`,
      });
      if (ids.checked) span.append(make("sub", String(token.id)));
      return [span, make("wbr")];
    }));
    const control = list.filter(token => token.kind === "control").length;
    const parts = [`${list.length} tokens`];
    if (control) parts.push(`${control} of them control tokens`);
    if (chosen.bytes) {
      parts.push(`${chosen.characters} characters`, `${chosen.bytes} bytes`);
    }
    for (const other of kinds) {
      if (other !== kind.value) parts.push(`${other}: ${chosen.tokens[other].length}`);
    }
    if (data.usd_per_million !== null) {
      const cost = chosen.tokens[kinds[0]].length * data.usd_per_million; // the price is its model's
      parts.push(`${cost.toPrecision(3)} USD for a million of these`);
    }
    note.textContent = parts.join(" · ");
    compare();
  };
  show();
}
