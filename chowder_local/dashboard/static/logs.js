// Shows a live log as plain text: keeps the latest lines, filters them, and pauses.
(() => {
  "use strict";

  const [log, filter, counted, pause, why] = ["log", "filter", "counted", "pause", "why"].map((id) =>
    document.getElementById(id),
  );
  if (!log) return;
  const LINES_MAX = 2 * Number(log.dataset.kept);
  let words = [];
  let held = null;

  document.addEventListener("htmx:sseBeforeMessage", (event) => {
    if (event.target.id !== "log-stream") return;
    // The event is JSON, not HTML.
    event.preventDefault();
    const update = JSON.parse(event.detail.data);
    if (why.textContent !== update.why) why.textContent = update.why;
    if (log.dataset.status !== update.status) {
      log.dataset.status = update.status;
      htmx.trigger("#again", "changed");
    }
    if (!held) return show(update);
    if (update.is_new) held = { lines: [], left_out: 0, is_new: true };
    held.lines.push(...update.lines);
    held.left_out += update.left_out + Math.max(0, held.lines.length - LINES_MAX);
    held.lines = held.lines.slice(-LINES_MAX);
    return label();
  });

  function show(update) {
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    if (update.is_new) log.replaceChildren();
    if (update.left_out) add(`(${update.left_out} lines omitted)`).className = "left-out";
    for (const line of update.lines) add(line);
    while (log.childElementCount > LINES_MAX) log.firstElementChild.remove();
    if (isAtEnd || update.is_new) log.scrollTop = log.scrollHeight;
    count();
  }

  function add(line) {
    const element = document.createElement("div");
    element.textContent = line;
    element.hidden = !matches(line);
    log.append(element);
    return element;
  }

  function matches(line) {
    const lower = line.toLowerCase();
    return words.every((word) => lower.includes(word));
  }

  function count() {
    const all = log.childElementCount;
    const hidden = words.length ? log.querySelectorAll("[hidden]").length : 0;
    counted.textContent = words.length ? `${all - hidden} of ${all} lines` : `${all} lines`;
  }

  filter.addEventListener("input", () => {
    words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const line of log.children) line.hidden = !matches(line.textContent);
    log.scrollTop = log.scrollHeight;
    count();
  });

  pause.addEventListener("click", () => {
    if (held) {
      const update = held;
      held = null;
      show(update);
    } else {
      held = { lines: [], left_out: 0, is_new: false };
    }
    label();
  });

  function label() {
    pause.textContent = held ? `Resume (${held.lines.length} new)` : "Pause";
  }
})();
