// What htmx does not do: dialogs, copying, dismissing, and counting how long ago something was.
(() => {
  "use strict";

  const dialog = () => document.getElementById("dialog");

  // A part of an answer whose place is not on this page is left out: a line further down than the
  // list goes, or one that the search does not find.
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

  // What is refused, and a server that is away, are told on the page. htmx and its extension would
  // put them in the console as well, as if they were errors of the page.
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

  // Goes to the line of a field that something is said of.
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
    const words = button.firstChild;
    try {
      await navigator.clipboard.writeText(source.textContent);
      words.data = "Copied";
    } catch {
      // Pages of other machines may not write to the clipboard; the keyboard may.
      getSelection().selectAllChildren(source);
      words.data = "Press Ctrl+C";
    }
    say(words.data);
    setTimeout(() => (words.data = "Copy"), 2000);
  }

  function say(words) {
    const said = document.getElementById("said");
    if (said) said.textContent = words;
  }

  // A list that is in the page as a whole is searched in the page.
  document.addEventListener("input", (event) => {
    const form = event.target.closest("[data-filters]");
    if (!form) return;
    const [words, kind] = [form.elements.q.value.trim().toLowerCase(), form.elements.kind.value];
    const rows = [...document.getElementById(form.dataset.filters).rows];
    for (const row of rows) {
      row.hidden = (kind && row.dataset.kind !== kind) || !row.textContent.toLowerCase().includes(words);
    }
    say(`${rows.filter((row) => !row.hidden).length} found`);
  });
  document.addEventListener("submit", (event) => {
    if (event.target.closest("[data-filters]")) event.preventDefault();
  });

  // What is put in the dialog opens it; what was sent from there, with whatever outcome, closes it.
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === dialog() && !dialog().open) dialog().showModal();
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
      // The button that opened it may be gone with its line.
      if (document.activeElement === document.body) document.getElementById("main").focus();
    },
    true,
  );

  // What went well is seen in the list as well; what did not stays until it was read.
  document.addEventListener("htmx:oobAfterSwap", (event) => {
    const word = event.detail.target.id === "notice" && event.detail.target.firstElementChild;
    if (word) setTimeout(() => word.remove(), 6000);
  });

  // A line may go while something in it has the focus, which would then be nowhere.
  let focused = null;
  document.addEventListener("focusin", (event) => (focused = event.target));
  document.addEventListener("htmx:sseMessage", () => {
    if (document.activeElement !== document.body || !focused || focused.isConnected) return;
    document.getElementById("main").focus();
  });

  document.addEventListener("htmx:sseClose", (event) => event.target.removeAttribute("aria-busy"));

  // A conversation opens at its newest message, and the page follows it down as it grows, unless
  // somebody has scrolled up. What is below it on narrow pages is not followed.
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
    // Who has said something wants to see what comes of it.
    if (event.detail.requestConfig?.elt.matches(".say, .begin")) follows = true;
    growth.observe(talk);
  });

  // Enter sends, as everywhere; with Shift it begins a line.
  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "text" || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    event.target.form.requestSubmit();
  });

  // What comes in the place of something inherits its focus.
  document.addEventListener("htmx:afterRequest", () => {
    if (document.activeElement !== document.body || !focused || focused.isConnected) return;
    let place = focused.closest("[id]");
    while (place && !document.getElementById(place.id)) place = place.parentElement?.closest("[id]");
    const heir = place && document.getElementById(place.id).querySelector("summary, button, a[href], input:not([type=hidden])");
    (heir ?? document.getElementById("main")).focus({ preventScroll: true });
  });

  const AWAY = "The server does not answer. This page goes on by itself once it does.";
  let isAway = false;
  function away(is) {
    if (is === isAway) return;
    isAway = is;
    document.getElementById("away")?.replaceChildren(is ? AWAY : "");
    // What it was like before is not what it is like now; it is looked at again once that can be.
    const unknown = document.getElementById("unknown");
    if (is && unknown) {
      document.getElementById("verdict").replaceChildren(unknown.content.cloneNode(true));
      document.getElementById("findings").replaceChildren();
    }
    if (!is) htmx.trigger(document.body, "back");
  }
  document.addEventListener("htmx:sseError", () => away(true));
  document.addEventListener("htmx:sseOpen", () => away(false));
  // Pages without a stream look again and again instead.
  document.addEventListener("htmx:sendError", () => away(true));
  document.addEventListener("htmx:afterOnLoad", () => away(false));

  // A line that is new to the stream may be in the list already.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    if (target.id !== "rows") return;
    for (const row of fragment.querySelectorAll("tr")) document.getElementById(row.id)?.remove();
  });

  const STEPS = [[60, 1, "s"], [3600, 60, "min"], [172800, 3600, "h"], [Infinity, 86400, "d"]];
  setInterval(() => {
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const seconds = Math.max(0, (Date.now() - Date.parse(time.dateTime)) / 1000);
      const [, unit, word] = STEPS.find(([end]) => seconds < end);
      const words = `${Math.floor(seconds / unit)} ${word}`;
      if (time.textContent !== words) time.textContent = words;
    }
  }, 5000);

  // The code of a sign-in link is behind the #, so that it is in no log and in no referrer.
  const link = document.getElementById("link");
  if (link && location.hash.startsWith("#code=")) {
    link.elements.code.value = location.hash.slice("#code=".length);
    history.replaceState(null, "", location.pathname);
    link.submit();
  }
})();
