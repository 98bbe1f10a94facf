(root, data, { make, draw, slider, menu, status }) => {
  const gib = bytes => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  const oneOf = (label, values, value) => slider(
    label, { max: values.length - 1, value, say: n => values[n].toLocaleString("en") }, () => show(),
  );
  const controls = make("div");
  const model = menu("model", data.models.map(each => each.name), () => choose());
  const context = oneOf("context in tokens", data.contexts, data.first);
  const users = oneOf("users at once", data.users, 0);
  const rows = make("div", undefined, { class: "kx-sizes" });
  const note = status();
  root.append(model.element, context.element, users.element, controls, rows, note);
  let layers, kvHeads;

  // The chosen model's own shape comes back with the model.
  const choose = () => {
    const chosen = data.models[model.select.selectedIndex];
    layers = slider("layers", { min: 1, max: 100, value: chosen.layers }, () => show());
    kvHeads = oneOf("key/value heads", data.kvHeads, data.kvHeads.indexOf(chosen.kv_heads));
    controls.replaceChildren(layers.element, kvHeads.element);
    show();
  };
  // A layer with a window keeps a token less than the window: the next token is one of it.
  const bytes = (each, tokens, count, heads) => each.windows.reduce((sum, [window, those]) =>
    sum + Math.min(tokens, window ? window - 1 : tokens) * those / each.layers, 0)
    * count * 2 * heads * each.head_dim * 2;
  const show = () => {
    const chosen = data.models[model.select.selectedIndex];
    const [length, many] = [data.contexts[context.value], data.users[users.value]];
    const heads = data.kvHeads[kvHeads.value];
    const most = each => Math.min(length, each.longest);
    const own = many * bytes(chosen, length, layers.value, heads);
    const lines = [
      ["as set above", own],
      [`${chosen.name}, a key for every head`, many * bytes(chosen, length, layers.value, chosen.heads)],
      ...data.models.map(each =>
        [each.name + (most(each) < length ? ` (${most(each).toLocaleString("en")} tokens)` : ""),
          many * bytes(each, most(each), each.layers, each.kv_heads)]),
    ];
    const largest = Math.max(...lines.map(([, size]) => size));
    rows.replaceChildren(...lines.flatMap(([name, size], place) => {
      const bar = make("span", undefined, { class: "kx-bar", "aria-hidden": "true" });
      const piece = make("i");
      piece.style.width = `${100 * size / largest}%`;
      piece.style.background = place ? "rgba(127, 134, 141, .75)" : "#fa520f";
      bar.append(piece);
      return [make(place ? "span" : "b", name), make("span", gib(size), { class: "kx-number" }), bar];
    }));
    const perToken = bytes(chosen, 1, layers.value, heads);
    note.textContent = `2 × ${layers.value} layers × ${heads} key/value heads × ${chosen.head_dim} `
      + `numbers × 2 bytes = ${(perToken / 1024).toFixed(0)} KiB for a token. For `
      + `${length.toLocaleString("en")} tokens and ${many} ${many > 1 ? "users" : "user"}: ${gib(own)}.`;
  };

  // Which tokens a token attends to, and what is still in the cache after it.
  const [count, cell] = [12, 20];
  const token = slider("token", { min: 1, max: count, value: 8 }, () => mask());
  const window = slider("window", {
    min: 1, max: count, value: 4, say: n => (n === count ? "none" : n),
  }, () => mask());
  const size = count * cell;
  const picture = draw("svg", {
    viewBox: `0 0 ${size + 2} ${size + 2}`, role: "img",
    "aria-label": "rows are tokens; an orange square is a token that the row's token attends to",
  });
  Object.assign(picture.style, { width: "100%", maxWidth: `${size}px` });
  const kept = status();
  root.append(token.element, window.element, picture, kept);
  const mask = () => {
    const width = window.value === count ? Infinity : window.value;
    picture.replaceChildren();
    for (let row = 0; row < count; row += 1) {
      for (let column = 0; column < count; column += 1) {
        const seen = column <= row && column > row - width;
        picture.append(draw("rect", {
          x: 1 + column * cell, y: 1 + row * cell, width: cell - 2, height: cell - 2,
          fill: seen ? "#fa520f" : "#7f868d",
          "fill-opacity": row < token.value ? (seen ? 1 : 0.18) : (seen ? 0.25 : 0.06),
        }));
      }
    }
    picture.append(draw("rect", {
      x: 0, y: (token.value - 1) * cell, width: size, height: cell, fill: "none",
      stroke: "currentColor", "stroke-width": 1.5,
    }));
    const first = Math.max(1, token.value - width + 1);
    const stays = Math.min(token.value, width - 1);
    kept.textContent = `Token ${token.value} attends to ${token.value - first + 1} of `
      + `${token.value} tokens. After it, the cache keeps the keys and values of ${stays}.`;
  };
  choose();
  mask();
}
