// Lines of a log as they come: text and nothing else, so many at most, filtered and held back here.
(() => {
  "use strict";

  const [log, filter, counted, pause, why] = ["log", "filter", "counted", "pause", "why"].map((id) =>
    document.getElementById(id),
  );
  if (!log) return;
  const MOST = 2 * Number(log.dataset.kept);
  let words = [];
  let held = null;

  document.addEventListener("htmx:sseBeforeMessage", (event) => {
    if (event.target.id !== "log-stream") return;
    // Nothing of it is HTML.
    event.preventDefault();
    const told = JSON.parse(event.detail.data);
    if (why.textContent !== told.why) why.textContent = told.why;
    if (log.dataset.status !== told.status) {
      log.dataset.status = told.status;
      htmx.trigger("#again", "changed");
    }
    if (!held) return show(told);
    if (told.is_new) held = { lines: [], left_out: 0, is_new: true };
    held.lines.push(...told.lines);
    held.left_out += told.left_out + Math.max(0, held.lines.length - MOST);
    held.lines = held.lines.slice(-MOST);
    return label();
  });

  function show(told) {
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    if (told.is_new) log.replaceChildren();
    if (told.left_out) add(`(${told.left_out} lines are left out here)`).className = "left-out";
    for (const line of told.lines) add(line);
    while (log.childElementCount > MOST) log.firstElementChild.remove();
    if (isAtEnd || told.is_new) log.scrollTop = log.scrollHeight;
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
      const told = held;
      held = null;
      show(told);
    } else {
      held = { lines: [], left_out: 0, is_new: false };
    }
    label();
  });

  function label() {
    pause.textContent = held ? `Go on (${held.lines.length} new)` : "Pause";
  }
})();
