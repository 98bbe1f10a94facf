(root, data, { make, draw, menu, button, status }) => {
  const [width, edge] = [640, 10];
  const x = at => edge + (width - 2 * edge) * at / data.end;
  const picture = draw("svg", {
    viewBox: `0 0 ${width} 74`, width: "100%", role: "img",
    "aria-label": `${data.pieces.length} pieces in ${data.end.toFixed(0)} milliseconds`,
  });
  picture.append(draw("line", {
    x1: x(0), x2: x(data.end), y1: 40, y2: 40, stroke: "currentColor",
  }));
  for (const [at, words, anchor] of [[0, "sent", "start"], [data.end, `${data.end.toFixed(0)} ms: end`, "end"]]) {
    picture.append(draw("text", {
      x: x(at), y: 66, "text-anchor": anchor, "font-size": 12, fill: "currentColor",
    }, words));
  }
  data.pieces.forEach(piece => picture.append(draw("line", {
    x1: x(piece.at), x2: x(piece.at), y1: 26, y2: 54, stroke: "#fa520f", "stroke-width": 2,
  })));
  const tool = menu("definition of", data.definitions.map(each => each.name), () => show());
  const first = draw("line", { y1: 14, y2: 14, stroke: "#2b6cb0", "stroke-width": 6 });
  picture.append(first);
  const note = status();
  const bar = make("div");
  bar.append(make("span", "Read it at "));
  const text = make("p", "", { class: "kx-note kx-played", "aria-live": "off" });
  root.append(tool.element, picture, note, bar, text);

  const show = () => {
    const chosen = data.definitions[tool.select.selectedIndex];
    first.setAttribute("x1", x(0));
    first.setAttribute("x2", x(chosen.first));
    note.textContent = `Time to first token (blue): ${chosen.first.toFixed(0)} ms. Then `
      + `${chosen.each.toFixed(1)} ms for each of ${data.tokens} tokens, that is `
      + `${(1000 / chosen.each).toFixed(0)} tokens/s.`;
  };
  show();

  let timer = null;
  const play = times => {
    clearTimeout(timer);
    text.textContent = "";
    const start = performance.now();
    const step = place => {
      if (place === times.length) return;
      timer = setTimeout(() => {
        text.textContent += data.pieces[place].text;
        step(place + 1);
      }, Math.max(0, times[place] - (performance.now() - start)));
    };
    step(0);
  };
  const offer = (words, times) => bar.append(button(words, () => play(times)));
  offer("the speed of this server", data.pieces.map(piece => piece.at));
  data.speeds.forEach(speed =>
    offer(`${speed} tokens/s`, data.pieces.map((_, place) => 1000 * place / speed)));
}
