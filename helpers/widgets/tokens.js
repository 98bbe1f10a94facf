(root, data) => {
  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const names = Object.keys(data.texts);
  const kinds = Object.keys(data.texts[names[0]].tokens);
  const choice = (label, options) => {
    const wrapped = make("label", `${label} `);
    const select = make("select");
    options.forEach(option => select.append(make("option", option)));
    select.addEventListener("change", () => show());
    wrapped.append(select);
    root.append(wrapped);
    return select;
  };
  const text = choice("text", names);
  const kind = choice("tokenizer", kinds);
  const wrapped = make("label");
  const ids = make("input", undefined, { type: "checkbox" });
  ids.addEventListener("change", () => show());
  wrapped.append(ids, " ids");
  const tokens = make("p", undefined, { class: "kx-tokens" });
  const note = make("p", "", { class: "kx-note", role: "status" });
  root.append(wrapped, tokens, note);

  const show = () => {
    const chosen = data.texts[text.value];
    const list = chosen.tokens[kind.value];
    tokens.replaceChildren(...list.flatMap((token, place) => {
      const words = token.text.replaceAll(" ", "␣").replaceAll("\n", "⏎");
      const span = make("span", words, {
        class: `kx-token kx-${token.kind} kx-color-${place % 4}`, title: `id ${token.id}`,
      });
      if (ids.checked) span.append(make("sub", String(token.id)));
      return [span, document.createElement("wbr")];
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
      const cost = list.length * data.usd_per_million;
      parts.push(`${cost.toPrecision(3)} USD for a million of these`);
    }
    note.textContent = parts.join(" · ");
  };
  show();
}
