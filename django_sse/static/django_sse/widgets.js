/*
 * django_sse: what {% sse_status %} and {% sse_toasts %} do beyond their attributes. These tags load it.
 *
 *   data-sse-status            shows its <template data-sse-state="..."> of the page's state, which is in its data-state
 *   data-sse-reload            a button that loads the page again
 *   data-sse-dismiss=".toast"  a button that removes what it is in
 */
(() => {
  "use strict";

  const loaded = Symbol.for("django_sse.widgets");
  if (window[loaded]) return; // printed twice: the first one serves them all
  window[loaded] = true;

  const page = document.documentElement;

  // ---- the status ------------------------------------------------------------------------------------------------

  let stale; // where events were lost: the page is out of date while that is in it
  let timer;

  // A live region speaks when its content changes, so the same is never put there twice.
  function show() {
    const state = stale && stale.isConnected ? "stale" : page.dataset.sse || "";
    for (const at of document.querySelectorAll("[data-sse-status]")) {
      if (at.dataset.state === state) continue;
      at.dataset.state = state;
      const templates = [...at.querySelectorAll("[data-sse-state]")];
      const wanted = templates.filter((template) => template.dataset.sseState === state);
      const shown = wanted.map((template) => document.importNode(template.content, true));
      if (templates.length) at.replaceChildren(...templates, ...shown);
    }
  }

  // A line that is back within two seconds is not worth a word.
  function plan() {
    clearTimeout(timer);
    timer = setTimeout(show, page.dataset.sse === "reconnecting" ? 2000 : 0);
  }

  new MutationObserver(plan).observe(page, { attributeFilter: ["data-sse"] });
  plan();

  addEventListener("sse-reset", (event) => setTimeout(() => {
    if (!event.defaultPrevented) stale = event.target; // else the page has brought itself up to date
    show();
  }));

  // ---- buttons ---------------------------------------------------------------------------------------------------

  let before; // what had the focus before a button that dismisses

  addEventListener("focusout", ({ target }) => {
    if (target.dataset && !("sseDismiss" in target.dataset)) before = target;
  });

  addEventListener("click", ({ target }) => {
    if (target.closest("[data-sse-reload]")) location.reload();
    const button = target.closest("[data-sse-dismiss]");
    const item = button && button.closest(button.dataset.sseDismiss);
    if (!item) return;
    const next = item.contains(document.activeElement) && before;
    item.remove();
    if (next) next.focus();
  });
})();
