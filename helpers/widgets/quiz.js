(root, data, { make, button, status }) => {
  const answered = new Map();
  const result = status();
  data.questions.forEach((question, number) => {
    const text = `${number + 1}. ${question.text}`;
    const box = make("div", undefined, { class: "kx-quiz", role: "group", "aria-label": text });
    const said = status();
    const buttons = question.options.map((option, place) => button(option, () => {
      const right = place === question.right;
      // The first choice counts.
      if (!answered.has(number)) answered.set(number, right);
      buttons.forEach((each, other) => each.setAttribute("aria-pressed", other === place));
      said.textContent = right ? `✓ Right. ${question.why}` : "✗ Not this one. Choose again.";
      const good = [...answered.values()].filter(Boolean).length;
      result.textContent = answered.size < data.questions.length
        ? `${answered.size} of ${data.questions.length} answered`
        : `${good} of ${data.questions.length} right at the first choice`;
    }, { "aria-pressed": false }));
    box.append(make("b", text), ...buttons, said);
    root.append(box);
  });
  root.append(result);
}
