/* The long job's page: what the attributes do not do. They fill the bars, the names and the numbers. */
/* global sse */
(() => {
  "use strict";

  const byId = (id) => document.getElementById(id);
  const status = byId("job-status");

  // The item of an event is in the page when all who hear of it had their turn.
  const withItem = (id, act) => queueMicrotask(() => byId(`job-${id}`) && act(byId(`job-${id}`)));

  sse.on("progress", ({ id, label, state }) => {
    withItem(id, (item) => {
      item.dataset.state = state;
    });
    // The bar itself moves too often to be read aloud; its end is not.
    if (state !== "running") status.textContent = `${label}: ${state}.`;
  });
  sse.on("hashed", ({ id, digest }) => {
    withItem(id, (item) => {
      item.querySelector(".digest code").textContent = digest;
    });
  });

  // What was missed is gone, say after the server's restart: take the list from the page as it is now.
  document.addEventListener("sse-reset", async () => {
    const now = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    byId("jobs").replaceChildren(...now.getElementById("jobs").childNodes);
  });

  // Started without leaving the page; the form works without this, too.
  const form = byId("job-form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new FormData(form, event.submitter);
    try {
      const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
      status.textContent = (await response.json()).message || "Started.";
    } catch {
      status.textContent = "Not started. Is the server still there?";
    }
  });
})();
