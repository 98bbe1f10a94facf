(root, data, { make, draw, slider, menu, status }) => {
  const names = { nf4: "NF4", fp4: "FP4", even: "evenly spaced" };
  const scheme = menu("16 values", Object.entries(names), () => show());
  const place = slider("weight", { max: data.weights.length - 1 }, () => show());
  const [width, height, edge] = [640, 150, 16];
  const picture = draw("svg", {
    viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img",
    "aria-label": "the weights of the block above, the 16 values below",
  });
  const note = status();
  const bytes = make("p", "", { class: "kx-note kx-token" });
  bytes.style.whiteSpace = "normal";
  const errors = make("table", undefined, { class: "kx-table" });
  root.append(scheme.element, place.element, picture, note, bytes, make("p", "Error of the whole matrix, by block size:",
    { class: "kx-note" }), errors);

  const x = value => edge + (width - 2 * edge) * (value + 1) / 2;
  const show = () => {
    const chosen = data.schemes[scheme.value];
    const number = place.value;
    picture.replaceChildren();
    chosen.values.forEach(value => picture.append(draw("line", {
      x1: x(value), x2: x(value), y1: 95, y2: 125, stroke: "currentColor", "stroke-width": 2,
    })));
    for (const tick of [-1, -0.5, 0, 0.5, 1]) {
      picture.append(draw("text", {
        x: x(tick), y: 143, "text-anchor": { [-1]: "start", 1: "end" }[tick] ?? "middle",
        "font-size": 12, fill: "currentColor",
      }, (tick * data.scale).toFixed(3)));
    }
    data.weights.forEach((weight, n) => {
      const own = weight / data.scale;
      const taken = chosen.values[chosen.codes[n]];
      const strong = n === number;
      picture.append(draw("line", {
        x1: x(own), y1: 30, x2: x(taken), y2: 95, stroke: strong ? "#fa520f" : "#7f868d",
        "stroke-width": strong ? 3 : 1,
      }));
      picture.append(draw("circle", {
        cx: x(own), cy: 28, r: strong ? 6 : 3, fill: strong ? "#fa520f" : "#7f868d",
      }));
    });
    const code = chosen.codes[number];
    const value = chosen.values[code];
    const weight = data.weights[number];
    const became = value * data.scale;
    note.textContent = `Weight ${number}: ${weight.toFixed(5)}, that is ${(weight / data.scale)
      .toFixed(3)} of the block's scale ${data.scale.toFixed(5)}. The nearest of the 16 values is `
      + `${value.toFixed(3)}: code ${code}, in bits ${code.toString(2).padStart(4, "0")}. It becomes `
      + `${became.toFixed(5)}, ${Math.abs(became - weight).toFixed(5)} off.`;
    bytes.textContent = `${data.weights.length} codes in ${data.weights.length / 2} bytes: `
      + chosen.bytes;
    const head = make("tr");
    head.append(make("th", "weights in a block"));
    Object.keys(names).forEach(key => head.append(make("th", names[key])));
    errors.replaceChildren(head, ...Object.entries(data.errors).map(([size, each]) => {
      const row = make("tr");
      row.append(make("td", size));
      Object.keys(names).forEach(key => {
        const cell = make("td", `${(100 * each[key]).toFixed(1)} %`);
        if (key === scheme.value && Number(size) === data.block) cell.style.fontWeight = "bold";
        row.append(cell);
      });
      return row;
    }));
  };
  show();
}
