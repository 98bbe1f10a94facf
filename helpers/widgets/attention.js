(root, data, { draw, slider, status }) => {
  const count = data.tokens.length;
  const layer = slider("layer", { max: data.weights.length - 1 }, () => show());
  const head = slider("head", { max: data.weights[0].length - 1 }, () => show());
  const query = slider("query", { max: count - 1, value: count - 1 }, () => show());
  const [cell, margin] = [22, 92];
  const size = margin + count * cell + 4;
  const picture = draw("svg", {
    viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "a darker square is more attention",
  });
  picture.style.maxWidth = `${Math.min(size, 620)}px`;
  picture.style.width = "100%";
  const note = status();
  root.append(layer.element, head.element, query.element, picture, note);

  const show = () => {
    const hex = data.weights[layer.value][head.value];
    const weight = (row, column) => parseInt(hex.substr(2 * (row * count + column), 2), 16) / 255;
    const chosen = query.value;
    picture.replaceChildren();
    data.tokens.forEach((token, n) => {
      const middle = margin + (n + 0.7) * cell;
      const style = { "font-size": 12, fill: "currentColor", "font-weight": n === chosen ? 700 : 400 };
      picture.append(draw("text", { ...style, x: margin - 6, y: middle, "text-anchor": "end" }, token));
      picture.append(draw("text", {
        "font-size": 12, fill: "currentColor", transform: `translate(${middle} ${margin - 6}) rotate(-60)`,
      }, token));
    });
    for (let row = 0; row < count; row += 1) {
      for (let column = 0; column <= row; column += 1) {
        picture.append(draw("rect", {
          x: margin + column * cell, y: margin + row * cell, width: cell - 1, height: cell - 1,
          fill: "#fa520f", "fill-opacity": 0.06 + 0.94 * weight(row, column),
        }));
      }
    }
    picture.append(draw("rect", {
      x: margin - 1, y: margin + chosen * cell - 1, width: (chosen + 1) * cell, height: cell,
      fill: "none", stroke: "currentColor",
    }));
    const order = [...Array(chosen + 1).keys()].sort((a, b) => weight(chosen, b) - weight(chosen, a));
    const most = order.slice(0, 3).map(n =>
      `“${data.tokens[n]}” ${(100 * weight(chosen, n)).toFixed(0)} %`);
    const group = Math.floor(head.value / data.sharing);
    const others = data.weights[0].map((_, n) => n)
      .filter(n => n !== head.value && Math.floor(n / data.sharing) === group);
    const shared = others.length ? ` It shares its keys and values with head ${others.join(" and ")}.` : "";
    note.textContent = `In layer ${layer.value}, head ${head.value}, “${data.tokens[chosen]}” attends `
      + `to ${most.join(", ")}.${shared}`;
  };
  show();
}
