(root, data, { make, button, status, visible }) => {
  const lanes = ["user", "model", "tools"];
  let current = 0;
  const before = button("Previous", () => go(-1));
  const after = button("Next", () => go(1));
  const where = make("span", "", { class: "kx-number" });
  const bar = make("div");
  bar.append(before, after, " ", where);
  const grid = make("div", undefined, { class: "kx-lanes" });
  lanes.forEach(lane => grid.append(make("b", lane)));
  const buttons = data.steps.map((step, place) => {
    const from = lanes.indexOf(step.sender);
    const to = lanes.indexOf(step.receiver);
    const mark = step.error ? "✗ " : "";
    const words = step.text.length > 110 ? `${step.text.slice(0, 108)} …` : step.text;
    const arrow = from < to ? `${mark}${words} →` : `← ${mark}${words}`;
    const made = button(arrow, () => go(place - current), {
      class: step.error ? "kx-error" : "",
      "aria-label": `step ${place + 1}: ${step.sender} to ${step.receiver}: ${step.text}`,
    });
    made.style.gridColumn = `${Math.min(from, to) + 1} / span 2`;
    grid.append(made);
    return made;
  });
  const picture = make("div");
  const json = make("pre", "", { class: "kx-json", tabindex: "0", "aria-label": "as JSON" });
  const note = status();
  const tokens = make("p", undefined, { class: "kx-tokens" });
  const counted = make("p", "", { class: "kx-note" });
  const meanings = make("p", "", { class: "kx-note" });
  root.append(bar, grid, note, picture, json, counted, tokens, meanings);

  const show = () => {
    const step = data.steps[current];
    buttons.forEach((each, place) => each.setAttribute("aria-current", String(place === current)));
    where.textContent = `${current + 1} of ${data.steps.length}`;
    before.disabled = current === 0;
    after.disabled = current === data.steps.length - 1;
    note.textContent = `${step.sender} to ${step.receiver}, as JSON:`;
    json.textContent = step.message;
    counted.textContent = data.refused ||
      (step.count ? `The model reads ${step.count} tokens:` : "Nothing of it is sent again.");
    tokens.replaceChildren(...step.tokens.flatMap((token, place) => [
      make("span", visible(token.text), {
        class: `kx-token kx-${token.kind} kx-color-${place % 4}`, title: `id ${token.id}`,
      }),
      make("wbr"),
    ]));
    if (step.tokens.length === data.most) tokens.append(" …");
    const control = step.tokens.filter(token => token.kind === "control");
    const names = [...new Set(control.map(token => token.text.replace(/ × .*/, "")))];
    meanings.textContent = names.filter(name => data.meanings[name])
      .map(name => `${name} ${data.meanings[name]}`).join(" · ");
    picture.replaceChildren();
    if (step.image) {
      const image = make("img", undefined, { alt: "the image of this message" });
      image.src = step.image;
      image.style.maxWidth = "16em";
      picture.append(image);
    }
  };
  const go = by => {
    current = Math.max(0, Math.min(data.steps.length - 1, current + by));
    show();
  };
  show();
}
