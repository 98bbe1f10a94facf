(() => {
  // What every explorer's page is built with. Text goes into the page as text only: a token, a file
  // name or an answer may look like HTML.
  const set = (element, attributes, text) => {
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const make = (tag, text, attributes = {}) => set(document.createElement(tag), attributes, text);
  const draw = (tag, attributes = {}, text) =>
    set(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, text);

  // A slider with its label and its value: `slider.value` is a number, `slider.say` shows it.
  const slider = (label, { min = 0, max, step = 1, value = 0, say = String }, changed) => {
    const element = make("label", `${label} `);
    const input = make("input", undefined, { type: "range", min, max, step, value });
    const output = make("output", say(Number(input.value)));
    input.addEventListener("input", () => {
      output.textContent = say(Number(input.value));
      changed();
    });
    element.append(input, " ", output);
    return { element, get value() { return Number(input.value); } };
  };
  // A menu with its label; `options` are texts, or pairs of a value and a text.
  const menu = (label, options, changed) => {
    const element = make("label", `${label} `);
    const select = make("select");
    for (const option of options) {
      const [value, text] = Array.isArray(option) ? option : [option, option];
      select.append(make("option", text, { value }));
    }
    select.addEventListener("change", changed);
    element.append(select);
    return { element, select, get value() { return select.value; } };
  };
  const button = (text, pressed, attributes = {}) => {
    const element = make("button", text, { type: "button", ...attributes });
    element.addEventListener("click", pressed);
    return element;
  };
  const status = () => make("p", "", { class: "kx-note", role: "status" });
  const visible = text => text.replaceAll(" ", "␣").replaceAll("\n", "⏎");
  return { make, draw, slider, menu, button, status, visible };
})()
