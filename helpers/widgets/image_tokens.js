(root, data) => {
  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const draw = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const names = Object.keys(data.models);
  const label = make("label", "model ");
  const model = make("select");
  names.forEach(name => model.append(make("option", name)));
  label.append(model);
  const size = make("label", "longer side ");
  const side = make("input", undefined, {
    type: "range", min: 0, max: data.sides.length - 1, step: 1, value: data.sides.length - 1,
  });
  const pixels = make("output");
  size.append(side, " ", pixels);
  const frame = make("div");
  frame.style.maxWidth = "26em";
  const note = make("p", "", { class: "kx-note", role: "status" });
  root.append(label, size, frame, note);

  const show = () => {
    const entry = data.models[model.value][Number(side.value)];
    const [width, height] = [entry.columns * 28, entry.rows * 28];
    pixels.textContent = `${data.sides[Number(side.value)]} px`;
    const svg = draw("svg", {
      viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img",
      "aria-label": `the image in ${entry.rows} rows of ${entry.columns} cells`,
    });
    const picture = draw("image", {
      href: data.pictures[model.value], width, height, preserveAspectRatio: "none",
    });
    picture.style.imageRendering = "pixelated";
    svg.append(picture);
    const line = (x1, y1, x2, y2) => svg.append(draw("line", {
      x1, y1, x2, y2, stroke: "#7f868d", "stroke-width": Math.max(width, height) / 420,
    }));
    for (let column = 0; column <= entry.columns; column += 1) line(column * 28, 0, column * 28, height);
    for (let row = 0; row <= entry.rows; row += 1) line(0, row * 28, width, row * 28);
    frame.replaceChildren(svg);
    const parts = [
      `sent: ${entry.sent.join(" × ")} pixels`, `the model gets ${width} × ${height}`,
      `${entry.columns} × ${entry.rows} cells and ${entry.rows} row ends: ${entry.tokens} tokens`,
    ];
    if (data.usd_per_million !== null) {
      parts.push(`${(entry.tokens * data.usd_per_million / 1e6).toPrecision(2)} USD`);
    }
    note.textContent = parts.join(" · ");
  };
  model.addEventListener("change", show);
  side.addEventListener("input", show);
  show();
}
