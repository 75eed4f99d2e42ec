// Ctrl+S saves, and the browser warns before unsaved text is lost.
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
  // Only a successful save replaces the digest.
  document.addEventListener("htmx:oobAfterSwap", (event) => {
    if (event.detail.target.id === "opened") saved = sent;
  });
  addEventListener("beforeunload", (event) => {
    if (text.value !== saved) event.preventDefault();
  });
})();
