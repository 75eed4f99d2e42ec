// Ctrl+S saves, and nobody leaves with something unsaved without being asked.
(() => {
  "use strict";

  const text = document.getElementById("content");
  if (!text) return;
  let saved = text.value;
  let sent = saved;

  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.key.toLowerCase() !== "s") return;
    event.preventDefault();
    text.form.requestSubmit();
  });
  text.form.addEventListener("htmx:beforeRequest", () => (sent = text.value));
  // Only what was saved is answered with another version.
  document.addEventListener("htmx:oobAfterSwap", (event) => {
    if (event.detail.target.id === "opened") saved = sent;
  });
  addEventListener("beforeunload", (event) => {
    if (text.value !== saved) event.preventDefault();
  });
})();
