/* How the page's stream is doing, on every page of the demo. */
/* global sse */
(() => {
  "use strict";

  const STATES = {
    connecting: "connecting",
    open: "live",
    reconnecting: "reconnecting",
    closed: "closed",
    denied: "not allowed",
  };
  const showState = () => {
    const badge = document.getElementById("state");
    badge.dataset.state = sse.state;
    badge.textContent = STATES[sse.state] || sse.state;
  };
  document.addEventListener("sse-state", showState);
  showState();
})();
