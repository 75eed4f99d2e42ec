// Uploads files one after another, and shows their progress.
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
    const line = createLine(file);
    document.getElementById("uploads").append(line.item);
    count += 1;
    last = last.then(() => send(form, file, line)).finally(() => (count -= 1));
  }

  function createLine(file) {
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
    const request = new XMLHttpRequest();
    line.button.addEventListener("click", () => {
      line.isCancelled = true;
      request.abort();
      line.item.remove();
    });
    // Closing the dialog or cancelling the line cancels the upload.
    if (!form.isConnected || !line.item.isConnected) return undefined;
    return new Promise((resolve) => {
      request.upload.onprogress = (event) => {
        line.progress.value = event.total ? event.loaded / event.total : 1;
        if (!form.isConnected) request.abort();
      };
      request.onloadend = () => {
        if (!line.isCancelled) showOutcome(form, file, line, request);
        resolve();
      };
      const body = new FormData(form);
      if ("isWhole" in form.dataset) {
        request.open("POST", `${form.getAttribute("action")}?${queryOf(body)}`);
      } else {
        request.open("POST", form.getAttribute("action"));
        body.append("file", file);
      }
      request.setRequestHeader("HX-Request", "true");
      request.send("isWhole" in form.dataset ? file : body);
    });
  }

  // The query of the fields that are not empty.
  function queryOf(body) {
    return new URLSearchParams([...body].filter(([, value]) => typeof value === "string" && value));
  }

  function showOutcome(form, file, line, request) {
    const address = request.getResponseHeader("HX-Redirect");
    if (address) return location.assign(address);
    line.button.remove();
    const isGood = request.status >= 200 && request.status < 300;
    const outcome = document.createElement("span");
    outcome.className = isGood ? "muted" : "why";
    outcome.textContent = isGood ? "done" : reason(request);
    line.item.append(outcome);
    if (!isGood) line.progress.remove();
    else line.progress.value = 1;
    const announcement = document.getElementById("announcement");
    if (announcement) announcement.textContent = `${file.name}: ${outcome.textContent}`;
    if (!isGood) return undefined;
    if (form.dataset.uploads) htmx.trigger(form.dataset.uploads, "uploaded");
    return form.closest("dialog")?.close();
  }

  function reason(request) {
    if (!request.status) return "The connection broke off.";
    const page = new DOMParser().parseFromString(request.responseText, "text/html");
    return page.querySelector(".notice p")?.textContent || `The server answered ${request.status}.`;
  }
})();
