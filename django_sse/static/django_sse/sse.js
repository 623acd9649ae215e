/*
 * django_sse: each <sse-stream src="..." last-id="..."> holds one event stream and puts its events into the page.
 *
 *   <b data-sse-on="price" data-sse-key="latest.bid"></b>      the text of the event's data at that path
 *   <progress data-sse-on="progress"></progress>               the length of a bar, by default the data's "percent"
 *   data-sse-swap   text (without it), value, append, prepend, remove
 *   data-sse-max    how many children append and prepend leave
 *   <template data-sse-on="..."> is cloned into its parent; data-sse-key fills elements of the clone. One with
 *   id="article-" data-sse-id="pk" becomes article-5, in place of the article-5 that its parent has already.
 *
 *   sse.on(name, (data, detail) => ...)   returns its undo       sse.state
 *   DOM events "sse:<name>", sse-open, sse-reset, sse-close, sse-fragment, sse-state; <html data-sse="open">
 *
 * Data only ever becomes text. HTML comes from send_fragment() alone, which the server has rendered.
 */
(() => {
  "use strict";
  if (customElements.get("sse-stream")) return; // printed twice: the first one serves them all

  const { polyfill } = document.currentScript ? document.currentScript.dataset : {};
  const nonce = document.currentScript ? document.currentScript.nonce : "";
  const streams = new Set(); // the elements in the page
  const handlers = new Map(); // name -> set of [function] given to sse.on()
  // EventSource hears only names that it was told.
  const names = new Set(["sse-open", "sse-reset", "sse-close", "sse-fragment"]);
  let away = false; // in the back/forward cache

  // ---- from an event to the page ---------------------------------------------------------------------------------

  const dig = (value, path) => path.split(".").reduce((at, key) => (at == null ? at : at[key]), value);

  function text({ data, raw }, key) {
    if (!key) return data === null || typeof data === "string" ? data || "" : raw; // 1.10 stays 1.10
    const value = dig(data, key);
    return value == null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
  }

  function fill(element, detail) {
    const { sseKey: key } = element.dataset;
    if (!/^(progress|meter)$/.test(element.localName)) {
      element.textContent = text(detail, key);
      return;
    }
    // A bar is as long as the number says; a <progress> without one shows that nobody knows how long it takes.
    const value = parseFloat(text(detail, key || "percent"));
    if (!key) element.max = 100;
    if (Number.isFinite(value)) element.value = value;
    else element.removeAttribute("value");
  }

  function filled(template, detail) {
    const clone = document.importNode(template.content, true);
    for (const part of clone.querySelectorAll("[data-sse-key]")) fill(part, detail);
    for (const part of clone.querySelectorAll("[data-sse-id]")) {
      // Its own beginning keeps an id of the data from posing as another element of the page.
      if (!part.id) throw new Error('data-sse-id adds to an id that ends in front of it, such as id="article-"');
      part.id += text(detail, part.dataset.sseId);
    }
    return clone;
  }

  function line(list, detail) {
    const item = document.createElement(/^([uo]l|menu)$/.test(list.localName) ? "li" : "div");
    item.textContent = text(detail, list.dataset.sseKey);
    return item;
  }

  const items = (list) => [...list.children].filter((child) => child.localName !== "template");

  // What carries an id takes the place of the one that the list has; the rest is returned.
  function renewed(list, content) {
    const parts = [...content.children];
    for (const part of parts) {
      const old = part.id && items(list).find((item) => item.id === part.id);
      if (old) old.replaceWith(part);
    }
    // Where every part has taken an old one's place, only blanks are left, which would pile up.
    if (parts.length && !content.children.length) content.textContent = "";
    return content;
  }

  function show(element, detail) {
    const template = element.localName === "template";
    const { sseSwap: swap = template ? "append" : "text", sseKey: key, sseMax: max } = element.dataset;
    const list = template ? element.parentNode : element;
    if (swap === "append" || swap === "prepend") {
      const content = template ? filled(element, detail) : line(element, detail);
      list[swap](renewed(list, content));
      const shown = max ? items(list) : [];
      while (shown.length > max) (swap === "append" ? shown.shift() : shown.pop()).remove();
    } else if (swap === "remove" && template) {
      const ids = [...filled(element, detail).children].map((part) => part.id).filter(Boolean);
      for (const item of items(list)) if (ids.includes(item.id)) item.remove();
    } else if (swap === "remove") element.remove();
    else if (swap === "text" && !template) fill(element, detail);
    else if (swap === "value" && !template) element.value = text(detail, key);
    else throw new Error(`data-sse-swap="${swap}" is not known here: use text, value, append, prepend or remove`);
  }

  // ---- fragments: HTML that the server has rendered ---------------------------------------------------------------

  let policy; // made for the first fragment: a page that gets none need not allow it
  function parsed(html) {
    if (window.trustedTypes) policy = policy || trustedTypes.createPolicy("django-sse", { createHTML: (it) => it });
    const template = document.createElement("template"); // scripts that are parsed here never run
    template.innerHTML = policy ? policy.createHTML(html) : html;
    return template.content;
  }

  const swaps = {
    append: (at, content) => at.append(renewed(at, content)),
    prepend: (at, content) => at.prepend(renewed(at, content)),
    before: (at, content) => at.before(renewed(at.parentNode, content)),
    after: (at, content) => at.after(renewed(at.parentNode, content)),
    replace: (at, content) => at.replaceWith(content),
    html: (at, content) => at.replaceChildren(content),
    remove: (at) => at.remove(),
  };

  // Whoever types goes on where they were, in the field that comes with the id of theirs.
  function keepFocus(act) {
    const old = document.activeElement || {};
    const { selectionStart: start, selectionEnd: end } = old;
    act();
    const now = old.id && !old.isConnected && document.getElementById(old.id);
    if (!now) return;
    now.focus({ preventScroll: true });
    if (start != null && now.selectionStart != null) now.setSelectionRange(start, end);
  }

  function put({ target, swap, html }) {
    const content = parsed(html);
    for (const at of document.querySelectorAll(target)) {
      // One that stood in another may be gone by now.
      if (at.isConnected) attempt(() => keepFocus(() => swaps[swap](at, document.importNode(content, true))));
    }
  }

  // The progress of a job, as django_sse.progress sends it: of what was missed, the last one comes alone.
  const isJob = (event, raw) =>
    event === "progress" && /^\{"id":"[\w-]+","label":".*","done":\d+,"total":(\d+|null),"percent":(\d+|null),"state":"(running|done|failed)"\}$/s.test(raw);

  // What a page's own code throws is reported, and never ends the stream.
  function attempt(act) {
    try {
      act();
    } catch (error) {
      setTimeout(() => { throw error; });
    }
  }

  // ---- the stream ------------------------------------------------------------------------------------------------

  class Stream extends HTMLElement {
    connectedCallback() {
      streams.add(this);
      this.passed = this.passed || new Set();
      if (!this.source) this.turn("connecting");
      ready.then(fetchPolyfill).then(() => this.open());
    }

    disconnectedCallback() {
      // Moving an element disconnects and connects it in one go: look again after that.
      Promise.resolve().then(() => {
        if (this.isConnected) return;
        this.close();
        streams.delete(this);
        publishState();
      });
    }

    open() {
      if (this.source || this.ended || away || !this.isConnected) return;
      if (!window.EventSource) return this.turn("closed");
      this.turn("connecting");
      const url = new URL(this.getAttribute("src"), document.baseURI);
      const id = this.getAttribute("last-id");
      if (id) url.searchParams.set("lastEventId", id);
      const source = (this.source = new EventSource(url.href));
      source.onopen = () => this.turn("open");
      // The browser comes back by itself, except after an answer that is no stream: then it gives up.
      source.onerror = () => this.turn(source.readyState === 2 ? "closed" : "reconnecting");
      for (const name of names) source.addEventListener(name, this);
    }

    close() {
      if (this.source) this.source.close();
      this.source = null;
    }

    turn(state) {
      if (this.ended || state === this.state) return;
      this.state = state;
      publishState();
      this.dispatchEvent(new CustomEvent("sse-state", { bubbles: true, detail: { state } }));
    }

    handleEvent({ type: event, data: raw, lastEventId: id }) {
      if (typeof raw !== "string") return; // EventSource's own "open" and "error", were a page to ask for these names
      const repeats = id === this.getAttribute("last-id"); // a first state has no id, and comes with the last one
      if (id) this.setAttribute("last-id", id); // a copy of the page goes on from here
      const own = event.startsWith("sse-");
      const fragment = event === "sse-fragment";
      // Of a job each stream has the last word for itself: what one was spared, another may bring too late.
      if ((fragment || !own) && !isJob(event, raw) && !repeats && this.hasPassed(id)) return;
      let data = raw;
      try {
        data = JSON.parse(raw);
      } catch (error) {
        // Text, then.
      }
      const detail = { event, data, raw, id };
      const options = { bubbles: true, cancelable: true, detail };
      if (this.dispatchEvent(new CustomEvent(own ? event : `sse:${event}`, options))) {
        for (const [handler] of [...(handlers.get(event) || [])]) attempt(() => handler(data, detail));
        const wanted = document.querySelectorAll(`[data-sse-on~="${CSS.escape(event)}"]`);
        for (const element of wanted) attempt(() => show(element, detail));
        if (fragment) attempt(() => put(data));
      }
      if (event === "sse-open" && data && data.refused && data.refused.length) {
        console.warn(`sse: not allowed to follow ${data.refused.join(", ")} (see django_sse.access.allow)`);
      }
      if (event === "sse-close" && data && data.reconnect === false) {
        this.close();
        this.turn("closed");
        this.ended = true;
      }
    }

    // Several streams of one page all carry the user's own topic: the first to bring an entry shows it.
    hasPassed(id) {
      const [entry] = /^1~[\w-]{8}\.\d+\.[0-9a-f]{10}/.exec(id) || [];
      if (!entry || this.passed.delete(entry)) return !!entry;
      for (const { passed } of [...streams].filter((other) => other !== this)) {
        passed.add(entry);
        if (passed.size > 1000) passed.delete(passed.values().next().value);
      }
      return false;
    }
  }

  // The page is as well as its worst stream.
  function publishState() {
    const states = [...streams].map((stream) => stream.state);
    const worst = ["denied", "closed", "reconnecting", "connecting", "open"].find((state) => states.includes(state));
    if (worst) document.documentElement.dataset.sse = worst;
    else delete document.documentElement.dataset.sse;
  }

  // ---- the page --------------------------------------------------------------------------------------------------

  function listen(name) {
    if (!name || names.has(name)) return;
    names.add(name);
    for (const stream of streams) if (stream.source) stream.source.addEventListener(name, stream);
  }

  function listenFor(root) {
    const found = [...root.querySelectorAll("[data-sse-on]")];
    if (root.dataset && root.dataset.sseOn) found.push(root);
    for (const element of found) element.dataset.sseOn.split(/\s+/).forEach(listen);
  }

  let fetching;
  function fetchPolyfill() {
    if (window.EventSource || !polyfill) return undefined;
    fetching = fetching || new Promise((done) => {
      const script = document.createElement("script");
      Object.assign(script, { src: polyfill, nonce, onload: done, onerror: done });
      document.head.append(script);
    });
    return fetching;
  }

  // Every deferred script has had its turn to call sse.on() before the first event can come.
  const ready = new Promise((done) => {
    if (document.readyState === "complete") done();
    for (const moment of ["DOMContentLoaded", "load"]) window.addEventListener(moment, done, { once: true });
  });

  // A page that is kept for the back button gives its socket up, and goes on where it was when it is shown again.
  window.addEventListener("pagehide", () => {
    away = true;
    for (const stream of streams) stream.close();
  });
  window.addEventListener("pageshow", ({ persisted }) => {
    if (!persisted) return;
    away = false;
    for (const stream of streams) stream.open();
  });

  listenFor(document);
  new MutationObserver((changes) => {
    for (const { type, target, addedNodes } of changes) {
      for (const node of type === "attributes" ? [target] : addedNodes) if (node.nodeType === 1) listenFor(node);
    }
  }).observe(document, { subtree: true, childList: true, attributeFilter: ["data-sse-on"] });

  window.sse = {
    on(name, handler) {
      const entry = [handler];
      listen(name);
      handlers.set(name, (handlers.get(name) || new Set()).add(entry));
      return () => handlers.get(name).delete(entry);
    },
    get state() {
      return document.documentElement.dataset.sse || "";
    },
  };
  customElements.define("sse-stream", Stream);
})();
