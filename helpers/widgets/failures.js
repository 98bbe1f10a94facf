(root, data, { make, draw, slider, button, status }) => {
  const names = Object.keys(data.faults);
  let chosen = names[0];
  const buttons = new Map();
  const switches = make("div", undefined, { class: "kx-switches" });
  for (const group of data.groups) {
    const row = make("div", undefined, { role: "group", "aria-label": group });
    for (const name of names.filter(each => data.faults[each].group === group)) {
      const made = button(name, () => { chosen = name; show(); }, {
        "aria-label": `${name}: ${data.faults[name].title}`,
      });
      buttons.set(name, made);
      row.append(made);
    }
    if (row.childElementCount) switches.append(make("b", group), row);
  }
  const note = status();
  const facts = make("div", undefined, { class: "kx-facts" });
  const failing = slider(
    "attempts that fail", { max: data.most_failing, value: 2 }, () => show(),
  );
  const picture = make("div");
  const endings = make("div", undefined, { class: "kx-facts" });
  const raw = make("pre", "", { class: "kx-json", tabindex: "0", "aria-label": "body" });
  root.append(
    switches, note, facts, failing.element, picture, endings,
    make("p", "The body of the failing reply, as it came:", { class: "kx-note" }), raw,
    make("p", "Every request here was really sent to the simulator, which fails on purpose. Times "
      + "are by the clock, and pauses were waited for. Calls ran side by side on one machine, so "
      + "an answer took longer than alone. If no attempt fails, all failures are one request. It "
      + "was sent once for each client.", { class: "kx-note" }),
  );

  const seconds = value => `${value.toFixed(2)} s`;
  const runs = () => Object.keys(data.clients).map(client => {
    const all = data.faults[chosen].runs[client];
    return [client, all[Math.min(failing.value, all.length - 1)]];
  });

  // One lane for each client: a box for each attempt, a dashed line for each pause.
  const timeline = () => {
    const [width, left, lane] = [640, 8, 62];
    const height = lane * runs().length + 22;
    const ends = runs().flatMap(([, run]) => run.attempts.map(each => each.ended));
    const end = Math.max(1, ...ends);
    const x = at => left + (width - 2 * left) * at / end;
    const words = runs().map(([client, run]) => `${client}: ${run.attempts.length} attempts`);
    const svg = draw("svg", {
      viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img",
      "aria-label": `Attempts over ${end.toFixed(1)} seconds. ${words.join(". ")}.`,
    });
    const write = (at, y, text, anchor = "start") => svg.append(draw("text", {
      x: at, y, "text-anchor": anchor, "font-size": 12, fill: "currentColor",
    }, text));
    runs().forEach(([client, run], place) => {
      const y = place * lane + 42;
      write(left, y - 28, `${client} → ${run.ending}`);
      run.attempts.forEach((attempt, number) => {
        const [from, to] = [x(attempt.sent), x(attempt.ended)];
        svg.append(draw("rect", {
          x: from, y: y - 8, width: Math.max(4, to - from), height: 16,
          fill: attempt.failed ? "#c2410c" : "#2b6cb0",
        }));
        const last = from > width - 50;
        write(last ? Math.min(width - left, from + 5) : from, y - 11,
          `${attempt.failed ? "✗" : "✓"} ${attempt.status}`, last ? "end" : "start");
        const next = run.attempts[number + 1];
        if (!next) return;
        svg.append(draw("line", {
          x1: Math.max(to, from + 4), x2: x(next.sent), y1: y, y2: y, stroke: "currentColor",
          "stroke-dasharray": "4 3",
        }));
        write((to + x(next.sent)) / 2, y + 14, seconds(next.sent - attempt.ended), "middle");
      });
    });
    const axis = height - 14;
    svg.append(draw("line", { x1: x(0), x2: x(end), y1: axis, y2: axis, stroke: "currentColor" }));
    for (let second = 0; second <= end; second += 1)
      write(x(second), height - 1, second ? `${second} s` : "0", second ? "middle" : "start");
    return svg;
  };

  const list = () => runs().flatMap(([client, run]) => {
    const steps = run.attempts.map((attempt, number) => {
      const next = run.attempts[number + 1];
      const pause = next ? ` · pause ${seconds(next.sent - attempt.ended)}, ${attempt.why}` : "";
      return `${attempt.failed ? "✗" : "✓"} ${attempt.status}${pause}`;
    });
    const end = run.error ? `${run.error} (${run.source})` : run.ending;
    const most = data.clients[client];
    return [
      make("b", `${client}, ${most === 1 ? "1 attempt" : `at most ${most}`}`),
      make("span", `${steps.join(" · ") || "nothing is sent"} → ${end}`),
    ];
  });

  const show = () => {
    const fault = data.faults[chosen];
    buttons.forEach((each, name) => each.setAttribute("aria-pressed", String(name === chosen)));
    const retry = { true: "can help", false: "cannot help", null: "not needed" }[fault.retry];
    const pairs = [
      ["HTTP status", String(fault.status)
        + (fault.retry_after === null ? "" : `, Retry-After: ${fault.retry_after}`)],
      ["error code", fault.code === null ? "none" : String(fault.code)],
      ["exception", fault.retry === null ? "none" : `${fault.exception} (${fault.source})`],
      ["the server", fault.server || "no message"],
      ["explained", fault.summary],
      ["to send it again", retry],
      ["to do", fault.action],
    ];
    if (fault.text)
      pairs.push(["text", `“${fault.text}”, finish reason: ${fault.finish_reason ?? "none"}`]);
    facts.replaceChildren(...pairs.flatMap(([term, text]) => [make("b", term), make("span", text)]));
    picture.replaceChildren(timeline());
    endings.replaceChildren(...list());
    raw.textContent = fault.body;
    const ends = runs().map(([client, run]) => `${client}: ${run.ending}`).join("; ");
    const number = ["no attempt fails", "1 attempt fails"][failing.value]
      ?? `${failing.value} attempts fail`;
    note.textContent = `${chosen}: ${fault.title}. If ${number}: ${ends}.`;
  };
  show();
}
