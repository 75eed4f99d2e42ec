// What htmx lacks: dialogs, copying, dismissing, search in the page, and the age of times.
(() => {
  "use strict";

  const dialog = () => document.getElementById("dialog");

  // Drops parts of a response whose target is not on this page: a row further down than the list
  // goes, or a row that the search excludes.
  htmx.defineExtension("placed", {
    transformResponse(text) {
      if (!text.includes("hx-swap-oob=") || /^\s*<!doctype/i.test(text)) return text;
      const answer = document.createElement("template");
      answer.innerHTML = text;
      const inner = [...answer.content.querySelectorAll("template")].map(({ content }) => content);
      const parts = [answer.content, ...inner].flatMap((each) => [...each.querySelectorAll("[hx-swap-oob]")]);
      const unplaced = parts.filter((part) => !document.querySelector(placeOf(part)));
      for (const part of unplaced) part.remove();
      return unplaced.length ? answer.innerHTML : text;
    },
  });
  const placeOf = (part) => part.getAttribute("hx-swap-oob").split(/:(.*)/s)[1] ?? `#${CSS.escape(part.id)}`;

  // The page shows refusals and an unreachable server itself. htmx and its extension would also log
  // them in the console, as if they were errors of the page.
  document.addEventListener("htmx:beforeRequest", (event) => (event.detail.error = null));
  htmx.createEventSource = (url) => new Stream(url);
  class Stream extends EventSource {
    set onerror(listener) {
      super.onerror = () => listener(null);
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if ("closes" in button.dataset) button.closest("dialog").close();
    if ("dismiss" in button.dataset) button.closest(".notice").remove();
    if (button.dataset.line) select(button);
    if (button.dataset.copies) await copy(button);
  });

  // Selects the line of a text field that a problem names.
  function select(button) {
    const field = document.getElementById(button.dataset.of);
    const lines = field.value.split("\n");
    const line = Number(button.dataset.line) - 1;
    const begin = lines.slice(0, line).join("\n").length + (line > 0);
    field.focus();
    field.setSelectionRange(begin, begin + (lines[line] ?? "").length);
    field.scrollTop = (field.scrollHeight / lines.length) * Math.max(0, line - 3);
  }

  async function copy(button) {
    const source = document.getElementById(button.dataset.copies);
    const label = button.firstChild;
    try {
      await navigator.clipboard.writeText(source.textContent);
      label.data = "Copied";
    } catch {
      // Without HTTPS, pages of other machines may not write to the clipboard; the keyboard may.
      getSelection().selectAllChildren(source);
      label.data = "Press Ctrl+C";
    }
    announce(label.data);
    setTimeout(() => (label.data = "Copy"), 2000);
  }

  // Tells screen readers.
  function announce(text) {
    const announcement = document.getElementById("announcement");
    if (announcement) announcement.textContent = text;
  }

  // Filters a list that the page holds completely.
  document.addEventListener("input", (event) => {
    const form = event.target.closest("[data-filters]");
    if (!form) return;
    const [text, kind] = [form.elements.q.value.trim().toLowerCase(), form.elements.kind.value];
    const rows = [...document.getElementById(form.dataset.filters).rows];
    for (const row of rows) {
      row.hidden = (kind && row.dataset.kind !== kind) || !row.textContent.toLowerCase().includes(text);
    }
    announce(`${rows.filter((row) => !row.hidden).length} found`);
  });
  document.addEventListener("submit", (event) => {
    if (event.target.closest("[data-filters]")) event.preventDefault();
  });

  // Content in the dialog opens it; at its end the button that opened it has the focus again, or the
  // one that replaced it. A form sent from the dialog closes it, whatever the outcome.
  let opener = "";
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target !== dialog() || dialog().open) return;
    opener = document.activeElement.id;
    dialog().showModal();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    const form = event.detail.elt;
    if (form.closest("dialog") && form.matches("form")) dialog().close();
    if (event.detail.successful && "resets" in form.dataset) form.reset();
    if (event.detail.successful && "resetsText" in form.dataset) form.elements.text.value = "";
    if (event.detail.successful && "reloads" in form.dataset) location.reload();
  });
  document.addEventListener(
    "close",
    () => {
      dialog().replaceChildren();
      if (document.activeElement !== document.body) return;
      (document.getElementById(opener) ?? document.getElementById("main")).focus();
    },
    true,
  );

  // Messages of success disappear by themselves; errors stay until the user dismisses them.
  document.addEventListener("htmx:oobAfterSwap", (event) => {
    const notice = event.detail.target.id === "notice" && event.detail.target.firstElementChild;
    if (notice) setTimeout(() => notice.remove(), 6000);
  });

  // An update may remove the row that has the focus; the focus then moves to the page.
  let focused = null;
  document.addEventListener("focusin", (event) => (focused = event.target));
  document.addEventListener("htmx:sseMessage", () => {
    if (document.activeElement !== document.body || !focused || focused.isConnected) return;
    document.getElementById("main").focus();
  });

  document.addEventListener("htmx:sseClose", (event) => event.target.removeAttribute("aria-busy"));

  // A conversation opens at its newest message, and the page scrolls down as it grows, unless the
  // user has scrolled up. On narrow pages it does not scroll to what is below the conversation.
  const NEAR = 240;
  let follows = true;
  let lastY = 0;
  const below = () => {
    const talk = document.querySelector("#talk[data-newest]");
    return talk ? talk.closest("section").getBoundingClientRect().bottom - innerHeight : 0;
  };
  const growth = new ResizeObserver(() => {
    if (follows && below() > 0) scrollBy(0, below());
  });
  addEventListener(
    "scroll",
    () => {
      if (below() < NEAR) follows = true;
      else if (scrollY < lastY) follows = false;
      lastY = scrollY;
    },
    { passive: true },
  );
  document.addEventListener("click", (event) => {
    if (event.target.closest("#older")) follows = false;
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    const talk = document.getElementById("talk");
    if (!talk) return;
    // After sending a message, the user wants to see the answer.
    if (event.detail.requestConfig?.elt.matches(".say, .begin")) follows = true;
    growth.observe(talk);
  });

  // Enter sends; Shift+Enter begins a line.
  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "text" || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    event.target.form.requestSubmit();
  });

  // A replacement gets the focus of the element that it replaces.
  document.addEventListener("htmx:afterRequest", () => {
    if (document.activeElement !== document.body || !focused || focused.isConnected) return;
    let place = focused.closest("[id]");
    while (place && !document.getElementById(place.id)) place = place.parentElement?.closest("[id]");
    const heir = place && document.getElementById(place.id).querySelector("summary, button, a[href], input:not([type=hidden])");
    (heir ?? document.getElementById("main")).focus({ preventScroll: true });
  });

  const AWAY = "The server does not answer. This page continues by itself once it does.";
  let isAway = false;
  function away(is) {
    if (is === isAway) return;
    isAway = is;
    document.getElementById("away")?.replaceChildren(is ? AWAY : "");
    // The last known health is outdated; the page checks it again once the server answers.
    const unknown = document.getElementById("unknown");
    if (is && unknown) {
      document.getElementById("verdict").replaceChildren(unknown.content.cloneNode(true));
      document.getElementById("findings").replaceChildren();
    }
    if (!is) htmx.trigger(document.body, "back");
  }
  document.addEventListener("htmx:sseError", () => away(true));
  document.addEventListener("htmx:sseOpen", () => away(false));
  // Pages without a stream poll instead.
  document.addEventListener("htmx:sendError", () => away(true));
  document.addEventListener("htmx:afterOnLoad", () => away(false));

  // A row that is new to the stream may already be in the list.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    if (target.id !== "rows") return;
    for (const row of fragment.querySelectorAll("tr")) document.getElementById(row.id)?.remove();
  });

  const STEPS = [[60, 1, "s"], [3600, 60, "min"], [172800, 3600, "h"], [Infinity, 86400, "d"]];
  setInterval(() => {
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const seconds = Math.max(0, (Date.now() - Date.parse(time.dateTime)) / 1000);
      const [, unit, name] = STEPS.find(([end]) => seconds < end);
      const text = `${Math.floor(seconds / unit)} ${name}`;
      if (time.textContent !== text) time.textContent = text;
    }
  }, 5000);

  // The code of a sign-in link is behind the #, so that no log and no referrer has it.
  const link = document.getElementById("link");
  if (link && location.hash.startsWith("#code=")) {
    link.elements.code.value = location.hash.slice("#code=".length);
    history.replaceState(null, "", location.pathname);
    link.submit();
  }
})();
