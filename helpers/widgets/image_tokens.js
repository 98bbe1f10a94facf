(root, data, { make, draw, slider, menu, status }) => {
  const model = menu("model", Object.keys(data.models), () => show());
  const last = data.sides.length - 1;
  const say = place => `${data.sides[place]} px`;
  const side = slider("longer side", { max: last, value: last, say }, () => show());
  const frame = make("div");
  frame.style.maxWidth = "26em";
  const note = status();
  root.append(model.element, side.element, frame, note);

  const show = () => {
    const entry = data.models[model.value][side.value];
    const [width, height] = [entry.columns * 28, entry.rows * 28];
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
  show();
}
