"use strict";
// Copies the code beside a button.
(() => {
  async function copy(button) {
    const text = document.getElementById(button.dataset.copies).textContent;
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      getSelection().selectAllChildren(document.getElementById(button.dataset.copies));
      done = false;
    }
    button.textContent = done ? "Copied" : "Selected";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }

  for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
})();
