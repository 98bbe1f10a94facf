(root, data, { make, slider, button, status, visible }) => {
  const shown = text => visible(text) || "∅";
  const state = { node: 0, step: 0, draws: 0 };
  const temperature = slider("temperature", { max: 2, step: 0.05, value: 1 }, () => show());
  const topP = slider("top-p", { min: 0.05, max: 1, step: 0.05, value: 1 }, () => show());
  const minP = slider("min-p", { max: 0.5, step: 0.01 }, () => show());

  // As `helpers.widgets.next_token.shares`.
  const shares = logs => {
    const best = Math.max(...logs);
    if (temperature.value < 1e-5) {
      const first = logs.indexOf(best);
      return logs.map((_, place) => (place === first ? 1 : 0));
    }
    let weights = logs.map(log => Math.exp((log - best) / temperature.value));
    const total = weights.reduce((a, b) => a + b);
    weights = weights.map(weight => weight / total);
    const order = weights.map((_, place) => place).sort((a, b) => weights[b] - weights[a] || a - b);
    const most = weights[order[0]];
    let before = 0;
    for (const place of order) {
      const weight = weights[place];
      if (before >= topP.value || weight < minP.value * most) weights[place] = 0;
      before += weight;
    }
    const left = weights.reduce((a, b) => a + b);
    return weights.map(weight => weight / left);
  };

  // The tokens from the beginning to a node's end: those of its parents first.
  const path = number => {
    const node = data.nodes[number];
    const own = node.steps.map((step, place) => ({ ...step, node: number, place }));
    if (node.parent === null) return own;
    return [...path(node.parent).slice(0, node.at), ...own];
  };

  const controls = make("div");
  controls.append(
    temperature.element, topP.element, minP.element, button("Draw a token", () => drawToken()),
    button("Back to the first answer", () => {
      state.node = state.step = 0;
      show();
    }),
  );

  const answer = make("p", undefined, { class: "kx-note" });
  const rows = make("div", undefined, { class: "kx-rows" });
  const note = status();
  const question = make("p", `${data.question} → `, { class: "kx-note" });
  root.append(question, answer, controls, rows, note);

  const choose = candidate => {
    if (candidate.node === null) {
      note.textContent = candidate.ends
        ? `With “${shown(candidate.text)}” the answer ends here.`
        : `“${shown(candidate.text)}” is possible; how it goes on was not computed.`;
      return;
    }
    state.node = candidate.node;
    state.step = candidate.step;
    show();
  };

  const show = () => {
    const steps = path(state.node);
    state.step = Math.min(state.step, steps.length - 1);
    answer.replaceChildren();
    steps.forEach((step, place) => {
      const choose = () => {
        state.step = place;
        show();
        answer.children[place].focus();
      };
      answer.append(button(shown(step.text), choose, {
        class: "kx-token", "aria-current": String(place === state.step),
        "aria-label": `step ${place + 1}: ${step.text}`,
      }));
    });
    const step = steps[state.step];
    const now = shares(step.likeliest.map(each => each.logprob));
    const heads = ["token", "model", "drawn", "grey: the model; orange: drawn"];
    rows.replaceChildren(...heads.map((head, n) =>
      make("b", head, n === 1 || n === 2 ? { class: "kx-number" } : {})));
    step.likeliest.forEach((each, place) => {
      const bar = make("span", undefined, { class: "kx-bar", "aria-hidden": "true" });
      const raw = make("i", undefined, { class: "kx-raw" });
      raw.style.width = `${100 * Math.exp(each.logprob)}%`;
      const drawn = make("i", undefined, { class: "kx-now" });
      drawn.style.width = `${100 * now[place]}%`;
      bar.append(raw, drawn);
      const percent = share => `${(100 * share).toFixed(1)} %`;
      rows.append(
        button(shown(each.text), () => choose(each), {
          class: "kx-token", "aria-pressed": String(each.text === step.text),
          "aria-label": `take the token ${each.text}`,
        }),
        make("span", percent(Math.exp(each.logprob)), { class: "kx-number" }),
        make("span", now[place] ? percent(now[place]) : "cut",
          { class: now[place] ? "kx-number" : "kx-number kx-cut" }),
        bar,
      );
    });
    const known = step.likeliest.reduce((sum, each) => sum + Math.exp(each.logprob), 0);
    note.textContent = `Step ${state.step + 1} of ${steps.length}. All other tokens together have `
      + `${(100 * Math.max(0, 1 - known)).toFixed(1)} % and are left out of “drawn”.`;
  };

  // A small generator with a seed, so that the draws of a page can be repeated (mulberry32).
  let seed = data.seed;
  const random = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const drawToken = () => {
    const step = path(state.node)[state.step];
    const now = shares(step.likeliest.map(each => each.logprob));
    let left = random();
    const place = now.findIndex(share => (left -= share) < 0);
    const drawn = step.likeliest[place < 0 ? now.indexOf(Math.max(...now)) : place];
    state.draws += 1;
    const words = `Draw ${state.draws}: “${shown(drawn.text)}”. `;
    choose(drawn);
    note.textContent = words + note.textContent;
  };
  show();
}
