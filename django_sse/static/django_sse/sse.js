/*
 * django_sse: each <sse-stream src="..." last-id="..."> follows an event stream and puts its events into the page.
 * Tabs whose addresses carry the same share key are served by one stream, which a SharedWorker holds: this same file.
 *
 *   <b data-sse-on="price" data-sse-key="latest.bid"></b>      the text of the event's data at that path
 *   <progress data-sse-on="progress"></progress>               the length of a bar, by default the data's "percent"
 *   data-sse-swap   text (without it), value, append, prepend, remove
 *   data-sse-max    how many children append and prepend leave
 *   <template data-sse-on="..."> is cloned into its parent; data-sse-key fills elements of the clone. One with
 *   id="article-" data-sse-id="pk" becomes article-5, in place of the article-5 that its parent has already.
 *
 *   sse.on(name, (data, detail) => ...)   returns its undo       sse.state
 *   sse.connect(url, {lastId}, (data, detail) => ...)   a stream without an element, until close()
 *   DOM events "sse:<name>", sse-open, sse-reset, sse-close, sse-fragment, sse-state; <html data-sse="open">
 *
 * Data only ever becomes text. HTML comes from send_fragment() alone, which the server has rendered.
 */
(() => {
  "use strict";

  // ---- cursors: "1~hash.offset.tag~...", a segment for each topic ------------------------------------------------

  const segments = (id) => new Map([...(id || "").matchAll(/~(([\w-]{8})\.\d+\.[\da-f]{10})/g)].map(([, it, hash]) => [hash, it]));
  const cursor = (positions) => (positions.size ? ["1", ...positions.values()].join("~") : "");
  const offset = (segment) => +segment.split(".")[1];

  // ---- transport: one attempt to read a stream, which tells what becomes of it -------------------------------------

  // The standard's parser. It is fed text, wherever that is cut, and tells each block's name, data and last id.
  function parser(id, tell) {
    let rest = "";
    let name = "";
    let data; // none yet
    let cut; // the last piece ended with CR, which may be half of a line's end
    return (text) => {
      const lines = (rest + (cut ? text.replace(/^\n/, "") : text)).split(/\r\n?|\n/);
      if (text) cut = text.endsWith("\r");
      rest = lines.pop();
      for (const line of lines) {
        const [, field, value = ""] = /^([^:]*)(?:: ?(.*))?/s.exec(line);
        if (!line) {
          tell("hear", name || "message", data, id);
          name = "";
          data = undefined;
        } else if (field === "data") data = data === undefined ? value : `${data}\n${value}`;
        else if (field === "event") name = value;
        else if (field === "id" && !value.includes("\0")) id = value;
        else if (field === "retry" && /^\d+$/.test(value)) tell("pace", +value);
      }
    };
  }

  function readByFetch(url, id, tell) {
    const abort = new AbortController();
    (async () => {
      const { status, redirected, headers, body } = await fetch(url, { signal: abort.signal, cache: "no-store" });
      if (status !== 200 || !/^text\/event-stream/i.test(headers.get("Content-Type"))) {
        // A page instead of a stream, behind a redirect: somebody wants a login.
        return tell("end", redirected && status === 200 ? 401 : status, headers.get("Retry-After"));
      }
      const parse = parser(id, tell);
      const decoder = new TextDecoder();
      const reader = body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return tell("end");
        tell("alive");
        parse(decoder.decode(value, { stream: true }));
      }
    })().catch(() => tell("end"));
    return () => abort.abort();
  }

  // EventSource hears only names that it was told, and no heartbeat: it is given all of them as messages.
  function readByEventSource(url, id, tell) {
    const source = new EventSource(`${url}&envelope=1`);
    source.onmessage = ({ data, lastEventId }) => {
      const { e, d } = JSON.parse(data);
      tell("alive");
      tell("hear", e, e === "sse-heartbeat" ? undefined : d, lastEventId);
    };
    source.onerror = () => tell("end");
    return () => source.close();
  }

  // ---- the hub: one stream for the members of one address, in the page or in the worker ---------------------------

  let polyfilled = false;

  class Hub {
    members = new Set();
    asked = []; // the topics that the stream was asked for
    names = new Map(); // topic hash -> topic, of those that it follows
    positions = new Map(); // topic hash -> segment: what was heard
    ring = []; // the last messages, for members that join late; one without an event marks a beginning
    state = "connecting";
    tries = 0;
    silent = 0; // attempts without a first byte; after an odd number by EventSource
    retry = 1000; // ms
    limit = 45000; // ms without a sign of life

    constructor(address) {
      this.address = address;
      addEventListener("online", () => this.timer && this.connect());
    }

    // A member has post(message). One that joins again shows that it is there, and hears the same.
    join(member, topics, id) {
      if (this.members.has(member)) return member.post({});
      const brought = segments(id);
      const missed = [];
      let again = !(this.stop || this.timer) || topics.some((topic) => !this.asked.includes(topic));
      this.members.add(Object.assign(member, { topics, brought, waits: true }));
      clearTimeout(this.lingering);
      if (!this.positions.size) this.id = id || "";
      for (const [hash, segment] of brought) {
        const own = this.positions.get(hash);
        const kept = this.ring.filter(({ at }) => at[0][0] === hash);
        const place = kept.findIndex(({ at }) => at[0][1] === segment);
        if (!own) this.positions.set(hash, segment);
        else if (offset(segment) > offset(own)) {
          // It waits for the stream. If that stays behind, it is for the server to say what became of the history.
          setTimeout(() => offset(this.positions.get(hash)) < offset(segment) && this.part(member), 15000);
        } else if (place >= 0) missed.push(...kept.slice(place + 1));
        else if (own !== segment) {
          // Further back than the ring: all go back, and skip what they have.
          this.forget(hash);
          this.positions.set(hash, segment);
          again = true;
        }
      }
      if (again) this.plan(10);
      else if (this.opening) this.welcome(member);
      for (const message of missed) member.post(message);
    }

    leave(member, linger) {
      this.members.delete(member);
      if (!this.members.size) this.lingering = setTimeout(() => this.close(), linger);
    }

    // From now on it has a stream of its own.
    part(member) {
      if (this.members.delete(member)) member.post({ alone: true });
    }

    plan(delay) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.connect(), delay);
    }

    connect() {
      this.close();
      const url = new URL(this.address);
      this.asked = [...new Set([...this.members].flatMap(({ topics }) => topics))];
      for (const topic of this.asked) url.searchParams.append("topic", topic);
      url.searchParams.set("lastEventId", cursor(this.positions) || this.id);
      // What an earlier attempt still has to tell is not heard.
      const tell = (name, ...them) => this.told === tell && this[name](...them);
      this.told = tell;
      this.stop = (polyfilled || this.silent % 2 ? readByEventSource : readByFetch)(url.href, this.id, tell);
      // A fetch may be held back for ever (by WebKit, by some proxies): then by the other way.
      this.watch(5000 * (this.silent + 1), 1);
    }

    close() {
      clearTimeout(this.timer);
      clearTimeout(this.watching);
      if (this.stop) this.stop();
      this.timer = this.stop = this.told = this.opening = null;
    }

    watch(wait, silent = 0) {
      clearTimeout(this.watching);
      this.watching = setTimeout(() => {
        this.silent += silent;
        this.end();
      }, wait);
    }

    alive() {
      this.silent %= 2;
      this.watch(this.limit);
    }

    pace(retry) {
      this.retry = retry;
    }

    end(status = 0, after = 0) {
      this.close();
      if (status === 400 && this.members.size > 1) {
        // Together they want too many topics.
        this.part([...this.members].pop());
        return this.plan(0);
      }
      if (status === 204 || (status >= 400 && status < 500 && ![408, 425, 429].includes(status))) {
        return this.turn(status === 401 || status === 403 ? "denied" : "closed");
      }
      for (const member of this.members) member.waits = true;
      this.turn("reconnecting");
      const wait = 1000 * after || Date.parse(after) - Date.now();
      const spread = Math.random();
      this.plan(wait > 0 ? wait * (1 + spread) : this.retry + spread * Math.min(30000, 1000 * 2 ** this.tries));
      this.tries += 1;
    }

    turn(state) {
      this.state = state;
      for (const member of this.members) member.post({ state });
    }

    hear(event, data, id) {
      let at = id === this.id ? [] : [...segments(id)].slice(0, 1); // a first state comes with the last id again
      this.id = id;
      if (data === undefined) return;
      this.tries = 0;
      if (event === "sse-open") return this.open(JSON.parse(data));
      if (event === "sse-reset") {
        const { topics } = JSON.parse(data);
        const now = segments(id);
        at = [...this.names].filter(([, topic]) => topics.includes(topic)).map(([hash]) => [hash, now.get(hash)]);
      }
      for (const [hash, segment] of at) {
        if (event === "sse-reset" || data.length > 1e4) this.forget(hash);
        this.positions.set(hash, segment);
      }
      const message = { event, data, id, at };
      for (const member of [...this.members]) {
        if (!at.length || at.some(([hash]) => this.wants(member, this.names.get(hash)))) member.post(message);
      }
      if (at.length) this.ring.push(message);
      if (this.ring.length > 500) this.ring.shift();
      if (event === "sse-close" && JSON.parse(data).reconnect === false) this.end(204);
      else if (!this.opening && this.state !== "open") this.turn("open"); // a stream without topics
    }

    // Its id is the whole cursor that the stream goes on from.
    open({ topics, hashes, refused, heartbeat }) {
      this.opening = refused;
      this.limit = 3000 * heartbeat;
      this.state = "open";
      this.names = new Map(hashes.map((hash, index) => [hash, topics[index]]));
      this.positions = segments(this.id);
      this.ring = this.ring.filter(({ at }) => this.positions.has(at[0][0]));
      for (const place of this.positions) this.ring.push({ at: [place] });
      for (const member of [...this.members]) if (member.waits) this.welcome(member);
    }

    welcome(member) {
      const mine = [...this.names].filter(([, topic]) => this.wants(member, topic));
      if (!mine.length) return member.post({ state: "denied" });
      const topics = mine.map(([, topic]) => topic);
      const fresh = mine.filter(([hash]) => !member.brought.has(hash)).map(([, topic]) => topic);
      const refused = this.opening.filter((topic) => member.topics.includes(topic));
      member.brought = this.positions;
      member.waits = false;
      member.post({
        state: "open",
        event: "sse-open",
        data: JSON.stringify({ topics, fresh, refused }),
        id: this.id,
        at: mine.map(([hash]) => [hash, this.positions.get(hash)]),
      });
    }

    // What nobody has asked for by name is everybody's: the user's own topic, the topics of a view.
    wants({ topics }, topic) {
      return topics.includes(topic) || !this.asked.includes(topic);
    }

    forget(hash) {
      this.ring = this.ring.filter(({ at }) => at[0][0] !== hash);
    }
  }

  if (!self.document) {
    const hub = new Hub(self.name);
    self.onconnect = ({ ports: [port] }) => {
      const member = { post: (message) => port.postMessage(message) };
      port.onmessage = ({ data }) => {
        if (data) hub.join(member, ...data);
        else hub.leave(member, 5000); // from one page to the next
      };
    };
    return;
  }

  if (customElements.get("sse-stream")) return; // printed twice: the first one serves them all

  const script = document.currentScript;
  const { polyfill, worker = script && script.src } = script ? script.dataset : {};
  const nonce = script ? script.nonce : "";
  const streams = new Set(); // the elements in the page
  const handlers = new Map(); // name -> set of [function] given to sse.on()

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

  let policy;
  function trusted(make, value) {
    if (!window.trustedTypes) return value;
    const keep = (it) => it;
    policy = policy || trustedTypes.createPolicy("django-sse", { createHTML: keep, createScriptURL: keep });
    return policy[make](value);
  }

  function parsed(html) {
    const template = document.createElement("template"); // scripts that are parsed here never run
    template.innerHTML = trusted("createHTML", html);
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

  // What a page's own code throws is reported, and never ends the stream.
  function attempt(act) {
    try {
      act();
    } catch (error) {
      setTimeout(() => { throw error; });
    }
  }

  // ---- the page's members of hubs ---------------------------------------------------------------------------------

  const members = new Set();
  const hubs = new Map(); // address -> the page's own hub
  let away = false; // in the back/forward cache, or frozen

  class Member {
    constructor(src, id, owner) {
      const url = new URL(src, document.baseURI);
      this.topics = url.searchParams.getAll("topic");
      url.searchParams.delete("topic");
      this.shares = url.searchParams.has("share");
      this.address = url.href;
      this.positions = segments(id);
      this.lastId = id;
      this.owner = owner;
      this.state = "connecting";
      this.enter();
    }

    get id() {
      return cursor(this.positions) || this.lastId;
    }

    enter() {
      members.add(this);
      ready.then(fetchPolyfill).then(() => this.join());
    }

    remove() {
      members.delete(this);
      if (this.leave) this.leave();
    }

    join() {
      if (this.leave || away || !members.has(this) || /closed|denied/.test(this.state)) return;
      try {
        if (this.shares && !this.alone && !polyfilled) return this.joinWorker();
      } catch (error) {
        // There is none, or the page's policy forbids it.
      }
      const hub = (this.shares && !this.apart && hubs.get(this.address)) || new Hub(this.address);
      if (this.shares && !this.apart) hubs.set(this.address, hub);
      this.alone = true;
      this.leave = () => {
        this.leave = null;
        hub.leave(this, 0);
      };
      hub.join(this, this.topics, this.id);
    }

    joinWorker() {
      const shared = new SharedWorker(trusted("createScriptURL", worker), { name: this.address, extendedLifetime: true });
      const { port } = shared;
      let timer;
      let heard;
      let known = false;
      const fail = () => {
        this.alone = !known; // one that has died is replaced
        if (this.leave) this.leave();
        this.join();
      };
      shared.onerror = fail;
      port.onmessage = ({ data }) => {
        known = heard = true;
        if (this.leave) this.post(data);
      };
      const beat = (wait) => {
        heard = false;
        port.postMessage([this.topics, this.id]);
        timer = setTimeout(() => (heard ? beat(10000) : fail()), wait);
      };
      this.leave = () => {
        this.leave = null;
        clearTimeout(timer);
        port.postMessage(0);
        port.close();
      };
      beat(4000);
    }

    post({ state, event, data, id, at = [], alone }) {
      if (alone) {
        if (this.leave) this.leave();
        this.alone = this.apart = true;
        return this.join();
      }
      if (state && state !== this.state) this.owner.turn((this.state = state));
      if (!event) return;
      const entry = !/^sse-(open|reset)$/.test(event);
      for (const [hash, segment] of at) {
        const own = this.positions.get(hash);
        if (own && entry && offset(segment) <= offset(own)) return;
        if (!segment) this.positions.delete(hash);
        else if (!own || event !== "sse-open") this.positions.set(hash, segment);
      }
      this.lastId = id || this.lastId;
      let value = data;
      try {
        value = JSON.parse(data);
      } catch (error) {
        // Text, then.
      }
      this.owner.hear({ event, data: value, raw: data, id: this.id }, at);
    }
  }

  class Stream extends HTMLElement {
    connectedCallback() {
      streams.add(this);
      if (this.member) this.member.enter();
      else {
        this.turn("connecting");
        this.member = new Member(this.getAttribute("src"), this.getAttribute("last-id"), this);
      }
      publishState();
    }

    disconnectedCallback() {
      // Moving an element disconnects and connects it in one go: look again after that.
      Promise.resolve().then(() => {
        if (this.isConnected) return;
        this.member.remove();
        streams.delete(this);
        publishState();
      });
    }

    turn(state) {
      this.state = state;
      publishState();
      this.dispatchEvent(new CustomEvent("sse-state", { bubbles: true, detail: { state } }));
    }

    hear(detail, at) {
      const { event, data, raw, id } = detail;
      this.setAttribute("last-id", id); // a copy of the page goes on from here
      // Another element that follows the same topic need not show it again.
      for (const { member } of streams) {
        for (const [hash, segment] of at) {
          const own = member !== this.member && member.positions.get(hash);
          if (own && segment && offset(segment) === offset(own) + 1) member.positions.set(hash, segment);
        }
      }
      const type = event.startsWith("sse-") ? event : `sse:${event}`;
      if (this.dispatchEvent(new CustomEvent(type, { bubbles: true, cancelable: true, detail }))) {
        for (const name of [event, "*"]) {
          for (const [handler] of [...(handlers.get(name) || [])]) attempt(() => handler(data, detail));
        }
        const wanted = document.querySelectorAll(`[data-sse-on~="${CSS.escape(event)}"]`);
        for (const element of wanted) attempt(() => show(element, detail));
        if (event === "sse-fragment") attempt(() => put(data));
      }
      if (event === "sse-open" && data.refused.length) {
        console.warn(`sse: not allowed to follow ${data.refused.join(", ")} (see django_sse.access.allow)`);
      }
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

  let fetching;
  function fetchPolyfill() {
    if (window.EventSource || !polyfill) return fetching;
    fetching = fetching || new Promise((done) => {
      const element = document.createElement("script");
      Object.assign(element, { src: trusted("createScriptURL", polyfill), nonce, onload: done, onerror: done });
      document.head.append(element);
    }).then(() => {
      polyfilled = !!window.EventSource;
    });
    return fetching;
  }

  // Every deferred script has had its turn to call sse.on() before the first event can come.
  const ready = new Promise((done) => {
    if (document.readyState === "complete") done();
    for (const moment of ["DOMContentLoaded", "load"]) window.addEventListener(moment, done, { once: true });
  });

  // A page that is kept for the back button, or frozen, gives its place up, and goes on where it was.
  function go(value) {
    if (away === value) return;
    away = value;
    for (const member of members) {
      if (!away) member.join();
      else if (member.leave) member.leave();
    }
  }
  for (const name of ["pagehide", "freeze"]) window.addEventListener(name, () => go(true), true);
  for (const name of ["pageshow", "resume"]) window.addEventListener(name, () => go(false), true);

  // A browser has few sockets: a stream of the page's own is not kept for a tab that nobody sees.
  let hiding;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    const alone = [...members].filter((member) => member.alone);
    if (!document.hidden) for (const member of alone) member.join();
    else hiding = setTimeout(() => alone.forEach((member) => member.leave && member.leave()), 60000);
  });

  window.sse = {
    on(name, handler) {
      const entry = [handler];
      handlers.set(name, (handlers.get(name) || new Set()).add(entry));
      return () => handlers.get(name).delete(entry);
    },
    connect(url, { lastId } = {}, handler) {
      const hear = (detail) => attempt(() => handler(detail.data, detail));
      const member = new Member(url, lastId, { hear, turn() {} });
      return { close: () => member.remove(), get state() { return member.state; } };
    },
    get state() {
      return document.documentElement.dataset.sse || "";
    },
  };
  customElements.define("sse-stream", Stream);
})();
