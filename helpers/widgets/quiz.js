(root, data, { make, status }) => {
  const answered = new Map();
  const result = status();
  data.questions.forEach((question, number) => {
    const box = make("fieldset", undefined, { class: "kx-quiz" });
    const said = status();
    box.append(make("legend", `${number + 1}. ${question.text}`));
    // A page can have the same quiz twice, and the choices of one must not undo the other's.
    const group = `quiz-${Math.random().toString(36).slice(2)}`;
    question.options.forEach((option, place) => {
      const label = make("label");
      const input = make("input", undefined, { type: "radio", name: group });
      input.addEventListener("change", () => {
        const right = place === question.right;
        // The first choice counts.
        if (!answered.has(number)) answered.set(number, right);
        said.textContent = right ? `✓ Right. ${question.why}` : "✗ Not this one. Choose again.";
        const good = [...answered.values()].filter(Boolean).length;
        result.textContent = answered.size < data.questions.length
          ? `${answered.size} of ${data.questions.length} answered`
          : `${good} of ${data.questions.length} right at the first choice`;
      });
      label.append(input, ` ${option}`);
      box.append(label);
    });
    box.append(said);
    root.append(box);
  });
  root.append(result);
}
