/* The demo's own script: what the page does beyond data-sse-on, which puts the events into it. */
/* global sse */
(() => {
  "use strict";

  const byId = (id) => document.getElementById(id);

  // ---- Lists: the attributes fill them; times, order and length are seen to here -------------------

  const showTime = (element) => {
    element.dateTime = element.dateTime || element.textContent; // an event brings ISO 8601
    const when = new Date(element.dateTime);
    const today = when.toDateString() === new Date().toDateString();
    const day = today ? {} : { day: "numeric", month: "short" };
    const text = when.toLocaleString(undefined, { ...day, hour: "2-digit", minute: "2-digit" });
    if (element.textContent !== text) element.textContent = text; // a screen reader hears of every change
    element.title = when.toLocaleString();
  };
  const stamp = (item) => Date.parse(item.querySelector("time").dateTime);

  const tidy = (list) => {
    const items = [...list.children].filter((child) => child.localName === "li");
    for (const item of items) {
      showTime(item.querySelector("time"));
      const edit = item.querySelector(".edit");
      if (edit) edit.href = edit.getAttribute("href").replace("/0/", `/${item.id.replace("article-", "")}/`);
    }
    // What was edited may be older than what is shown: it goes where the server would have put it.
    const sorted = [...items].sort((one, other) => stamp(other) - stamp(one));
    if (sorted.some((item, place) => item !== items[place])) list.append(...sorted);
    for (const item of sorted.slice(Number(list.dataset.keep))) item.remove();
  };
  for (const list of [byId("articles"), byId("notes")]) {
    tidy(list);
    new MutationObserver(() => tidy(list)).observe(list, { childList: true });
    list.addEventListener("animationend", ({ target }) => target.classList.remove("fresh"));
  }

  // What was missed is gone, say after the server's restart: take the lists from the page as it is now.
  let resetting = 0;
  document.addEventListener("sse-reset", () => {
    clearTimeout(resetting); // one comes for each topic
    resetting = setTimeout(refresh, 200);
  });
  const refresh = async () => {
    const now = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    for (const id of ["articles", "notes"]) byId(id).replaceChildren(...now.getElementById(id).childNodes);
  };

  // ---- Prices: the numbers come by attributes; arrows, flashes and charts from here ----------------

  const restart = (element, name) => {
    element.classList.remove(name);
    void element.offsetWidth; // an animation starts again only after a layout without its class
    element.classList.add(name);
  };

  const chart = (svg, price) => {
    const line = svg.firstElementChild;
    const prices = line.getAttribute("points").split(" ").map((point) => -point.split(",")[1]);
    prices.push(Number(price));
    prices.shift();
    const [low, high] = [Math.min(...prices), Math.max(...prices)];
    line.setAttribute("points", prices.map((value, step) => `${step},${-value}`).join(" "));
    svg.setAttribute("viewBox", `0 ${-high} ${prices.length - 1} ${high - low || 0.01}`);
  };
  document.querySelectorAll("tr[data-event]").forEach((row) => {
    const cell = row.querySelector(".price");
    const svg = row.querySelector("svg");
    sse.on(row.dataset.event, (quote) => {
      row.dataset.trend = quote.trend;
      cell.dataset.move = quote.move;
      restart(cell, "flash");
      chart(svg, quote.price);
    });
  });

  // ---- Notes: sent without leaving the page; the form works without this, too -----------------------

  const form = byId("note-form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new FormData(form);
    body.set("to", event.submitter ? event.submitter.value : form.querySelector("[name=to]").value);
    const status = byId("note-status");
    try {
      const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
      if (!response.ok) throw new Error(String(response.status));
      status.textContent = `Sent to ${(await response.json()).to}.`;
      form.elements.text.value = "";
      form.elements.text.focus();
    } catch {
      status.textContent = "Not sent. Is the server still there?";
    }
  });

  // ---- The strip: the same URL, read as text ---------------------------------------------------------

  const LINES = 40;
  const strip = byId("strip");
  const url = document.querySelector("sse-stream")?.getAttribute("src");
  const hiddenCount = byId("strip-hidden");
  const pauseButton = byId("strip-pause");
  let paused = false;
  let waiting = []; // lines kept back while paused
  let hidden = 0;
  let lastId = "";
  let reading = null; // the AbortController of the connection, where there is one
  let again = 0;

  const lineElement = (line) => {
    const element = document.createElement("span");
    const colon = line.indexOf(":");
    if (colon === 0) element.className = "comment";
    if (colon > 0) {
      const field = document.createElement("b");
      field.textContent = line.slice(0, colon + 1);
      element.append(field, line.slice(colon + 1));
      element.className = line.slice(0, colon);
    } else {
      element.textContent = line;
    }
    element.append("\n");
    return element;
  };
  const show = (lines) => {
    if (paused) {
      waiting = waiting.concat(lines).slice(-LINES);
      return;
    }
    const atEnd = strip.scrollHeight - strip.scrollTop - strip.clientHeight < 24;
    strip.append(...lines.slice(-LINES).map(lineElement));
    while (strip.children.length > LINES) strip.firstElementChild.remove();
    if (atEnd) strip.scrollTop = strip.scrollHeight;
  };
  const showBlock = (lines) => {
    const id = lines.find((line) => line.startsWith("id:"));
    if (id) lastId = id.slice(3).trim();
    if (lines.some((line) => line.startsWith("event: price-")) && !byId("strip-prices").checked) {
      hidden += 1;
      hiddenCount.textContent = `${hidden.toLocaleString()} hidden`;
      return;
    }
    show([...lines, ""]);
  };
  const read = async () => {
    clearTimeout(again);
    if (reading || !url) return;
    const mine = new AbortController();
    reading = mine;
    const state = byId("strip-state");
    try {
      const headers = lastId ? { "Last-Event-ID": lastId } : {};
      const response = await fetch(url, { headers, signal: mine.signal, cache: "no-store" });
      if (!response.ok) throw new Error(String(response.status));
      state.textContent = "read with fetch()";
      const reader = response.body.getReader();
      const decoder = new TextDecoder();
      let rest = "";
      let block = [];
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const lines = (rest + decoder.decode(value, { stream: true })).split(/\r?\n/);
        rest = lines.pop();
        for (const line of lines) {
          if (line) block.push(line);
          else if (block.length) showBlock(block.splice(0));
        }
      }
    } catch {
      // Aborted, or the line dropped: the same as an end.
    }
    if (reading !== mine) return;
    reading = null;
    state.textContent = "reconnecting";
    again = setTimeout(read, 3000);
  };
  const stop = () => {
    clearTimeout(again);
    const mine = reading;
    reading = null;
    mine?.abort();
  };

  byId("strip-url").textContent = `GET ${url ?? ""}`;
  pauseButton.addEventListener("click", () => {
    paused = !paused;
    pauseButton.setAttribute("aria-pressed", String(paused));
    pauseButton.textContent = paused ? "Go on" : "Pause";
    if (!paused) show(waiting.splice(0));
  });
  // A browser opens six HTTP/1.1 connections to a host, for all its tabs: a strip that nobody sees gives its own back,
  // and resumes where it stood.
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : read()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", () => document.hidden || read());
})();
