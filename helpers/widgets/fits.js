(root, data, { make, slider, menu, status }) => {
  const gib = bytes => bytes / 2 ** 30;
  const colors = ["#fa520f", "#2b6cb0", "#fdba9b", "#7f868d"];
  const gpu = menu("GPU", Object.keys(data.gpus), () => show());
  gpu.select.value = data.first.gpu;
  const oneOf = (label, values, value) => slider(
    label, { max: values.length - 1, value, say: n => values[n].toLocaleString("en") }, () => show(),
  );
  const context = oneOf("context in tokens", data.contexts, data.first.context);
  const users = oneOf("users at once", data.users, 0);
  const images = oneOf("images of each", data.images, 0);
  const legend = make("p", undefined, { class: "kx-note" });
  data.uses.forEach((name, place) => {
    const box = make("span", "", { class: "kx-box" });
    box.style.background = colors[place];
    legend.append(box, ` ${name}   `);
  });
  const rows = make("div", undefined, { class: "kx-fits" });
  const note = status();
  root.append(gpu.element, context.element, users.element, images.element, legend, rows, note);

  const show = () => {
    const [length, many, shown] = [context.value, users.value, images.value];
    const memory = data.gpus[gpu.value];
    const needs = Object.entries(data.needs).map(([scheme, all]) => [scheme, all[length][many][shown]]);
    if (needs.some(([, parts]) => parts === null)) {
      rows.replaceChildren();
      note.textContent = "So many images take more tokens than this context has.";
      return;
    }
    const total = parts => parts.reduce((a, b) => a + b);
    const most = Math.max(memory, ...needs.map(([, parts]) => total(parts))) * 1.02;
    rows.replaceChildren(...needs.flatMap(([scheme, parts]) => {
      const sum = total(parts);
      const bar = make("span", undefined, { class: "kx-bar", "aria-hidden": "true" });
      let left = 0;
      parts.forEach((bytes, place) => {
        const piece = make("i");
        Object.assign(piece.style, {
          left: `${100 * left / most}%`, width: `${100 * bytes / most}%`, background: colors[place],
        });
        bar.append(piece);
        left += bytes;
      });
      const limit = make("i", undefined, { class: "kx-limit" });
      limit.style.left = `${100 * memory / most}%`;
      bar.append(limit);
      const room = gib(memory - sum);
      const words = room >= 0 ? `fits, ${room.toFixed(1)} spare` : `${(-room).toFixed(1)} too much`;
      return [make("b", scheme), make("span", `${gib(sum).toFixed(1)} GiB`, { class: "kx-number" }),
        bar, make("span", words)];
    }));
    const fitting = needs.filter(([, parts]) => total(parts) <= memory).map(([scheme]) => scheme);
    note.textContent = `${gpu.value} has ${gib(memory).toFixed(1)} GiB that a program can use (the `
      + `upright line). ${fitting.length ? `It fits in ${fitting.join(", ")}.` : "Nothing fits."}`;
  };
  show();
}
