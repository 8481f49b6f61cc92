// A quick check explains the answer that was chosen; until then all its explanations are hidden.
for (const check of document.querySelectorAll("form.quick-check")) {
  const details = check.querySelector("details"), said = check.querySelector("[role=status]");
  const items = [...details.querySelectorAll(":scope > ul > li")], explanations = items.map(item => [...item.childNodes]);
  check.querySelectorAll("input, button").forEach(part => { part.hidden = false; });
  details.hidden = true;
  check.addEventListener("change", () => said.replaceChildren()); // what was said is about another answer
  check.addEventListener("submit", event => {
    event.preventDefault();
    const chosen = Number(check.querySelector("input:checked").value);
    said.replaceChildren(...explanations[chosen]);
    said.classList.toggle("right", items[chosen].classList.contains("right"));
  });
}

// The Tab key stops at formulas, which have a menu, but not between a radio button and the next.
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  document.querySelectorAll(".quick-check label mjx-container").forEach(formula => formula.removeAttribute("tabindex"));
});
