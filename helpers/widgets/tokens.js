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
  root.append(text.element, kind.element, label, tokens, note);

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
      const cost = list.length * data.usd_per_million;
      parts.push(`${cost.toPrecision(3)} USD for a million of these`);
    }
    note.textContent = parts.join(" · ");
  };
  show();
}
