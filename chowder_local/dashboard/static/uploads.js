// Sends files one after another, each as it is read, and shows how far it is.
(() => {
  "use strict";

  let last = Promise.resolve();
  let count = 0;

  document.addEventListener("change", (event) => {
    const form = event.target.form;
    if (event.target.type !== "file" || !form?.matches("[data-uploads]:not([data-is-whole])")) return;
    for (const file of event.target.files) enqueue(form, file);
    event.target.value = "";
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-uploads]")) return;
    event.preventDefault();
    for (const file of event.target.querySelector("[type=file]").files) enqueue(event.target, file);
  });
  addEventListener("beforeunload", (event) => {
    if (count) event.preventDefault();
  });

  function enqueue(form, file) {
    const line = lineOf(file);
    document.getElementById("uploads").append(line.item);
    count += 1;
    last = last.then(() => send(form, file, line)).finally(() => (count -= 1));
  }

  function lineOf(file) {
    const item = document.createElement("li");
    const name = document.createElement("span");
    name.textContent = file.name;
    const progress = document.createElement("progress");
    progress.max = 1;
    progress.value = 0;
    progress.setAttribute("aria-label", file.name);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = "Cancel";
    item.append(name, progress, button);
    return { item, progress, button, isCancelled: false };
  }

  function send(form, file, line) {
    const sent = new XMLHttpRequest();
    line.button.addEventListener("click", () => {
      line.isCancelled = true;
      sent.abort();
      line.item.remove();
    });
    // Whoever closes a dialog wants nothing of it any more.
    if (!form.isConnected || !line.item.isConnected) return undefined;
    return new Promise((resolve) => {
      sent.upload.onprogress = (event) => {
        line.progress.value = event.total ? event.loaded / event.total : 1;
        if (!form.isConnected) sent.abort();
      };
      sent.onloadend = () => {
        if (!line.isCancelled) told(form, file, line, sent);
        resolve();
      };
      const body = new FormData(form);
      if ("isWhole" in form.dataset) {
        sent.open("POST", `${form.getAttribute("action")}?${asked(body)}`);
      } else {
        sent.open("POST", form.getAttribute("action"));
        body.append("file", file);
      }
      sent.setRequestHeader("HX-Request", "true");
      sent.send("isWhole" in form.dataset ? file : body);
    });
  }

  // What was left empty is not asked for.
  function asked(body) {
    return new URLSearchParams([...body].filter(([, value]) => typeof value === "string" && value));
  }

  function told(form, file, line, sent) {
    const moved = sent.getResponseHeader("HX-Redirect");
    if (moved) return location.assign(moved);
    line.button.remove();
    const isGood = sent.status >= 200 && sent.status < 300;
    const words = document.createElement("span");
    words.className = isGood ? "muted" : "why";
    words.textContent = isGood ? "done" : reason(sent);
    line.item.append(words);
    if (!isGood) line.progress.remove();
    else line.progress.value = 1;
    const said = document.getElementById("said");
    if (said) said.textContent = `${file.name}: ${words.textContent}`;
    if (!isGood) return undefined;
    if (form.dataset.uploads) htmx.trigger(form.dataset.uploads, "uploaded");
    return form.closest("dialog")?.close();
  }

  function reason(sent) {
    if (!sent.status) return "It broke off.";
    const page = new DOMParser().parseFromString(sent.responseText, "text/html");
    return page.querySelector(".notice p")?.textContent || `The server answered ${sent.status}.`;
  }
})();
