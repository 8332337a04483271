"use strict";
// A model's details in the drawer of index.html: links to its models and Escape are sent there as the fragment to open.
(() => {
  if (parent === window) return;
  const send = (fragment) => parent.postMessage(fragment, "*");
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") send("");
  });
  addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="../index.html#"]');
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    send(link.matches(".close") ? "" : link.hash.slice(1));
  });
})();
