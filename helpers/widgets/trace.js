(root, data) => {
  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const lanes = ["user", "model", "tools"];
  let current = 0;
  const before = make("button", "Previous", { type: "button" });
  const after = make("button", "Next", { type: "button" });
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
    const button = make("button", from < to ? `${mark}${words} →` : `← ${mark}${words}`, {
      type: "button", class: step.error ? "kx-error" : "",
      "aria-label": `step ${place + 1}: ${step.sender} to ${step.receiver}: ${step.text}`,
    });
    button.style.gridColumn = `${Math.min(from, to) + 1} / span 2`;
    button.addEventListener("click", () => { current = place; show(); });
    grid.append(button);
    return button;
  });
  const picture = make("div");
  const json = make("pre", "", { class: "kx-json", tabindex: "0", "aria-label": "as JSON" });
  const note = make("p", "", { class: "kx-note", role: "status" });
  root.append(bar, grid, note, picture, json);

  const show = () => {
    const step = data.steps[current];
    buttons.forEach((button, place) => button.setAttribute("aria-current", String(place === current)));
    where.textContent = `${current + 1} of ${data.steps.length}`;
    before.disabled = current === 0;
    after.disabled = current === data.steps.length - 1;
    note.textContent = `${step.sender} to ${step.receiver}, as JSON:`;
    json.textContent = step.message;
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
  before.addEventListener("click", () => go(-1));
  after.addEventListener("click", () => go(1));
  show();
}
