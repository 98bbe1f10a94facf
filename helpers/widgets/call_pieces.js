(root, data, { make, slider, menu, status }) => {
  const last = data.pieces.length;
  const arrived = slider("pieces that have arrived", { min: 1, max: last, value: last }, () => show());
  const by = menu("one call is", data.by, () => show());
  const names = menu("a name in pieces:", data.names, () => show());
  const pieces = make("ol");
  const calls = make("div");
  const note = status();
  root.append(arrived.element, by.element, names.element, pieces, calls, note);

  const show = () => {
    const count = arrived.value;
    pieces.replaceChildren(...data.pieces.map((piece, number) => {
      const line = make("li");
      const text = make("code", piece);
      if (number >= count) line.setAttribute("aria-hidden", "true");
      line.style.visibility = number < count ? "visible" : "hidden";
      line.append(text);
      return line;
    }));
    const made = data.made[`${by.value} ${names.value}`][count - 1];
    calls.replaceChildren(...made.map((call, number) => {
      const box = make("div", undefined, { class: "kx-note" });
      const name = make("b", `call ${number + 1}: ${call.name || "(no name)"}`);
      const json = make("pre", `id: ${call.id}\n${call.arguments}`, { class: "kx-json", tabindex: 0 });
      box.append(name, json, make("span", call.fault ? `✗ ${call.fault}` : "✓ can be run"));
      return box;
    }));
    const good = made.filter(call => !call.fault).length;
    note.textContent = `${made.length} ${made.length === 1 ? "call" : "calls"}, ${good} can be run.`
      + (count < last ? " The stream has not ended." : "");
  };
  show();
}
