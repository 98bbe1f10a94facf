(root, data, { make, menu, status, visible }) => {
  const example = menu("labels", Object.keys(data.examples), () => show());
  const tokens = make("p", undefined, { class: "kx-tokens" });
  const note = status();
  root.append(example.element, tokens, note);

  // Learned tokens are colored and underlined; the others have neither.
  const show = () => {
    const { tokens: list, faults } = data.examples[example.value];
    tokens.replaceChildren(...list.flatMap(token => {
      const span = make("span", visible(token.text), {
        class: `kx-token kx-${token.kind} ${token.learned ? "kx-learned" : ""}`,
        title: `id ${token.id}, ${token.learned ? "learned" : "only read"}`,
      });
      return [span, make("wbr")];
    }));
    const learned = list.filter(token => token.learned).length;
    note.textContent = [
      `${learned} of ${list.length} tokens are learned (underlined)`,
      ...(faults.length ? faults : ["no fault found"]),
    ].join(" · ");
  };
  show();
}
