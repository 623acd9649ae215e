/*
 * django_sse: each <sse-stream src="..." last-id="..."> follows an event stream and puts its events into the page.
 * Tabs whose addresses carry the same share key are served by one stream, which a SharedWorker holds: this same file.
 *
 *   <b data-sse-on="price" data-sse-key="latest.bid"></b>      the text of the event's data at that path
 *   <progress data-sse-on="progress"></progress>               the length of a bar, by default the data's "percent"
 *   <a data-sse-on="price" data-sse-attr="href:url title:name.long"></a>    attributes, from the data at these paths
 *   data-sse-swap   text (without it), html, append, prepend, before, after, replace, remove, value, attr:X, class:X
 *   data-sse-target a selector of what this is done to, in place of the element itself
 *   data-sse-max    how many children append and prepend leave
 *   <template data-sse-on="..."> is cloned into its parent; data-sse-key and data-sse-attr fill elements of the clone.
 *   One with id="article-" data-sse-id="pk" becomes article-5, in place of the article-5 that its parent has already.
 *
 *   sse.on(name, (data, detail) => ...)   returns its undo       sse.state
 *   sse.connect(url, {lastId}, (data, detail) => ...)   a stream without an element, until close()
 *   DOM events "sse:<name>", sse-open, sse-reset, sse-close, sse-fragment, sse-state; <html data-sse="open">
 *
 * Data only ever becomes text, and attributes that can do no harm. HTML comes from send_fragment() alone, which the
 * server has rendered.
 */
(() => {
  // ---- cursors: "1~hash.offset.tag~...", a segment for each topic ------------------------------------------------

  const segments = (id) => new Map([...(id || "").matchAll(/~((.{8})\.\d+\.\w+)/g)].map(([, it, hash]) => [hash, it]));
  const cursor = (its) => ((its = its.filter((it) => it)).length ? ["1", ...its].join("~") : "");
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

  async function readByFetch(url, id, signal, tell) {
    try {
      const { status, redirected, headers, body } = await fetch(url, { signal, cache: "no-store" });
      if (status !== 200 || !/event-stream/i.test(headers.get("Content-Type"))) {
        // A page instead of a stream, behind a redirect: somebody wants a login.
        return tell("end", redirected && status === 200 ? 401 : status, headers.get("Retry-After"));
      }
      const parse = parser(id, tell);
      const decoder = new TextDecoder();
      const reader = body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        parse(decoder.decode(value, { stream: true }));
        tell("alive"); // by the limit that the opening names
      }
    } catch {
      // The network's, which say nothing more.
    }
    tell("end");
  }

  // EventSource hears only names that it was told, and no heartbeat: it is given all of them as messages.
  function readByEventSource(url, id, signal, tell) {
    const source = new EventSource(`${url}&envelope=1`);
    source.onmessage = ({ data, lastEventId }) => {
      const { e, d } = JSON.parse(data);
      tell("hear", e, e === "sse-heartbeat" ? undefined : d, lastEventId);
      tell("alive");
    };
    source.onerror = () => tell("end");
    signal.onabort = () => source.close();
  }

  // ---- the hub: one stream for the members of one address, in the page or in the worker ---------------------------

  let polyfilled = false;

  // Without members, it keeps its stream for some time: from one page to the next.
  function makeHub(address, linger) {
    const members = new Set(); // each with post(message) and its topics
    let asked = []; // the topics that the stream was asked for
    let names; // topic hash -> topic, of those that it follows
    let trails = new Map(); // topic hash -> [segment, message] of what was heard last, the newest first
    let lastId = "";
    let opening; // the data of the open stream's sse-open; none while there is none
    let state = "connecting";
    let tries = 0;
    let silent = 0; // attempts without a first byte; after an odd number by EventSource
    let retry = 1000; // ms
    let limit = 45000; // ms without a sign of life
    let reading; // aborts the present attempt
    let timer; // of the next attempt, or of this one's silence; none while it is not to go on
    let lingering;

    const newest = (hash) => trails.get(hash)?.[0][0];

    // What nobody has asked for by name is everybody's: the user's own topic, the topics of a view.
    const wants = ({ topics }, hash) => topics.includes(names.get(hash)) || !asked.includes(names.get(hash));

    const places = (test, at) => [...names.keys()].filter(test).map((hash) => [hash, at(hash)]);

    // It is answered at once. One that joins again only asks for that.
    function join(member, topics, id) {
      member.post({});
      if (members.has(member)) return;
      const missed = [];
      let again = !timer || topics.some((topic) => !asked.includes(topic));
      members.add(member);
      member.topics = topics;
      clearTimeout(lingering);
      if (!trails.size) lastId = id || "";
      for (const [hash, segment] of segments(id)) {
        const trail = trails.get(hash) || [];
        const place = trail.findIndex(([it]) => it === segment);
        const ahead = () => offset(newest(hash) || segment) < offset(segment);
        if (place >= 0) missed.unshift(...trail.slice(0, place));
        // It waits for the stream. If that stays behind, it is for the server to say what became of the history.
        else if (ahead()) setTimeout(() => ahead() && part(member), 15000);
        else if (again || !opening || trail.length) {
          // Further back than the trail: all go back, and skip what they have. (An open stream was refused the rest.)
          trails.set(hash, [[segment]]);
          again = again || reading;
        }
      }
      if (again) plan(10);
      else if (opening) welcome(member);
      for (const [, message] of missed.reverse()) member.post(message);
    }

    function leave(member) {
      members.delete(member);
      if (members.size) return;
      if (linger) lingering = setTimeout(close, linger);
      else close(); // before the page is frozen
    }

    // From now on it has a stream of its own.
    function part(member) {
      if (members.delete(member)) member.post({ state: "alone" });
    }

    function wait(delay, act) {
      clearTimeout(timer);
      timer = setTimeout(act, Math.min(delay, 1e9)); // a longer one would be none
    }

    function plan(delay) {
      close();
      wait(delay, connect);
    }

    function connect() {
      close();
      if (!members.size) return;
      const url = new URL(address);
      asked = [...new Set([...members].flatMap(({ topics }) => topics))];
      for (const topic of asked) url.searchParams.append("topic", topic);
      lastId = cursor([...trails.keys()].map(newest)) || lastId;
      url.searchParams.set("lastEventId", lastId);
      reading = new AbortController();
      const { signal } = reading;
      // What an earlier attempt still has to tell is not heard.
      const acts = {
        hear,
        end,
        alive() {
          silent %= 2;
          wait(limit, end);
        },
        pace(ms) {
          retry = ms;
        },
      };
      const tell = (name, ...them) => signal.aborted || acts[name](...them);
      (self.EventSource && (polyfilled || silent % 2) ? readByEventSource : readByFetch)(url.href, lastId, signal, tell);
      // A fetch may be held back for ever (by WebKit, by some proxies): then by the other way.
      wait(5000 * (silent + 1), () => {
        silent += 1;
        connect();
      });
    }

    function close() {
      clearTimeout(timer);
      reading?.abort();
      timer = reading = opening = null;
    }

    function end(status, after) {
      close();
      if (status === 400 && members.size > 1) {
        // Together they want too many topics.
        part([...members].pop());
        return plan(0);
      }
      if (/204|4(?!08|25|29)../.test(status)) {
        return turn(/40[13]/.test(status) ? "denied" : "closed");
      }
      // One that never opened: its policy may forbid what the pages may do.
      if (linger && !names && tries > 1) return members.forEach(part);
      silent *= !tries; // EventSource tells no statuses: after two failures a fetch is tried again
      turn("reconnecting");
      const told = 1000 * after || Date.parse(after) - Date.now();
      const spread = Math.random();
      plan(told > 0 ? told * (1 + spread) : retry + spread * Math.min(30000, 1000 * 2 ** tries));
      tries += 1;
    }

    function turn(now) {
      state = now;
      for (const member of members) member.post({ state });
    }

    function hear(event, data, id) {
      lastId = id;
      if (data === undefined) return;
      tries = 0;
      const { topics, hashes, heartbeat, reconnect } = /^sse-[orc]/.test(event) ? JSON.parse(data) : {};
      if (hashes) {
        // Its id is the whole cursor that the stream goes on from.
        opening = data;
        limit = 3000 * heartbeat;
        state = "open";
        names = new Map(hashes.map((hash, index) => [hash, topics[index]]));
        trails = new Map([...segments(id)].map(([hash, it]) => [hash, newest(hash) === it ? trails.get(hash) : [[it]]]));
        return members.forEach(welcome);
      }
      // A reset names its topics. A first state comes with the last id again, and everything else with one segment new.
      // (A reset topic has no segment while its first state is owed: whoever had a position has none now.)
      const its = segments(id);
      const at = topics
        ? places((hash) => topics.includes(names.get(hash)), (hash) => its.get(hash))
        : [...its].filter(([hash, it]) => newest(hash) !== it);
      const message = { event, data, id, at };
      for (const [hash, segment] of at) {
        const trail = topics || data.length > 1e4 ? [] : trails.get(hash) || [];
        trails.set(hash, [[segment, message], ...trail].slice(0, 100));
      }
      for (const member of [...members]) {
        if (!at.length || at.some(([hash]) => wants(member, hash))) member.post(message);
      }
      if (reconnect === false) end(204);
      else if (state !== "open") turn("open"); // a stream without topics
    }

    function welcome(member) {
      const at = places((hash) => wants(member, hash), newest);
      // Of what it asked for, all may have been refused.
      member.post(at.length ? { state, event: "sse-open", data: opening, at } : { state: "denied" });
    }

    addEventListener("online", () => timer && connect());
    return { join, leave };
  }

  if (!self.document) {
    const hub = makeHub(self.name, 5000);
    self.onconnect = ({ ports: [port] }) => {
      const member = { post: (message) => port.postMessage(message) };
      port.onmessage = ({ data }) => {
        if (data) hub.join(member, ...data);
        else hub.leave(member);
      };
    };
    return;
  }

  if (customElements.get("sse-stream")) return; // printed twice: the first one serves them all

  const { src, nonce, dataset: { polyfill, worker = src } } = document.currentScript || { dataset: {} };
  const handlers = new Set(); // [name, function] given to sse.on()
  const page = document.documentElement.dataset; // whose "sse" tells the page's state

  const all = (selector, at = document) => [...at.querySelectorAll(selector)];
  const copy = (template) => document.importNode(template.content, true);

  function listen(names, act) {
    for (const name of names.split(" ")) addEventListener(name, act, true);
  }

  // ---- from an event to the page ---------------------------------------------------------------------------------

  // What objects inherit, such as their constructor, is no data.
  const step = (at, key) => ({}.hasOwnProperty.call(Object(at), key) ? at[key] : null);
  const pick = ({ data }, key) => (key ? key.split(".").reduce(step, data) : data);

  function text(detail, key) {
    const value = pick(detail, key);
    if (value == null || typeof value === "string") return value || "";
    return key ? JSON.stringify(value) : detail.raw; // 1.10 stays 1.10
  }

  // Known names only: browsers and front ends add attributes that run code, or restyle, every year. An address only
  // where it leads away or shows a picture; and nothing at all where text is code, or what is loaded runs.
  const harmless = /^(a href|(img|audio|video|source|input) src|(?!(script|style|i?frame|object|embed|link|meta|base) )\S+ ((aria|data)-(?!sse\b)[-a-z\d]+|alt|title|lang|hidden|open|disabled|checked|selected|value|datetime|min|max|width|height|points))$/;

  function check({ localName }, name) {
    if (!harmless.test(`${localName} ${name}`)) throw new Error(`no ${name} from data: ${localName}`);
  }

  function fill(at, detail, key) {
    check(at, "value");
    if (!/^(progress|meter)$/.test(at.localName)) {
      at.textContent = text(detail, key);
      return;
    }
    // A bar is as long as the number says; a <progress> without one shows that nobody knows how long it takes.
    const value = parseFloat(text(detail, key || "percent"));
    if (!key) at.max = 100;
    if (isFinite(value)) at.value = value;
    else at.removeAttribute("value");
  }

  // As the browser reads it, whatever its case and its control characters.
  const schemeOf = (href) => Object.assign(document.createElement("a"), { href }).protocol;

  function set(at, detail, key, name) {
    check(at, name);
    const value = pick(detail, key);
    const string = text(detail, key);
    const bad = /href|src/.test(name) && !/^(https?|mailto|tel):$/.test(schemeOf(string));
    // In aria-*, true and false are words.
    if (typeof value === "boolean" && !/^aria/.test(name)) at.toggleAttribute(name, value);
    else if (bad || value == null) at.removeAttribute(name);
    else at.setAttribute(name, string);
    if (bad) throw new Error(`no ${name}: ${string}`);
  }

  // As they stand in data-sse-attr: "name:path name:path".
  function setAll(at, detail, pairs) {
    pairs.replace(/([^\s:]+):?(\S*)/g, (_, name, key) => attempt(() => set(at, detail, key, name)));
  }

  function filled(template, detail) {
    const clone = copy(template);
    for (const part of all("[data-sse-attr]", clone)) setAll(part, detail, part.dataset.sseAttr);
    for (const part of all("[data-sse-key]", clone)) fill(part, detail, part.dataset.sseKey);
    for (const part of all("[data-sse-id]", clone)) {
      // Its own beginning keeps an id of the data from posing as another element of the page.
      if (!part.id) throw new Error("data-sse-id");
      part.id += text(detail, part.dataset.sseId);
    }
    return clone;
  }

  function line(list, detail, key) {
    const item = document.createElement(/^([uo]l|menu)$/.test(list.localName) ? "li" : "div");
    item.textContent = text(detail, key);
    return item;
  }

  const items = (list, kind = ":not(template)") => all(`:scope > ${kind}`, list);

  // Of what is made for a list, parts with an id take the place of those that it has, or take them along; the rest is
  // returned.
  function renewed(list, make, gone) {
    const content = make(list);
    const parts = [...content.children];
    for (const part of parts) {
      const old = part.id && items(list).find((item) => item.id === part.id);
      if (old && gone) old.remove();
      else if (old) old.replaceWith(part);
    }
    // Where every part has taken an old one's place, only blanks are left, which would pile up.
    if (parts.length && !content.children.length) content.textContent = "";
    return content;
  }

  // What is done with nodes, which are made for the list that they go into: a fragment's, a template's, or a line ...
  const inside = (at, make, swap) => at[swap](renewed(at, make));
  const beside = (at, make, swap) => at[swap](renewed(at.parentNode, make));
  const swaps = {
    __proto__: null, // "constructor" is none of them
    append: inside,
    prepend: inside,
    before: beside,
    after: beside,
    replace: (at, make) => at.replaceWith(make(at.parentNode)),
    html: (at, make) => at.replaceChildren(make(at)),
    remove: (at) => at.remove(),
  };

  // ... and with data alone, which never becomes HTML.
  const puts = {
    __proto__: null,
    text: fill,
    html: fill,
    value: (at, detail, key) => { at.value = text(detail, key); },
    attr: set,
    class: (at, detail, key, name) => at.classList.toggle(name, !!pick(detail, key)),
  };

  // Whoever types goes on where they were, in the field that comes with the id of theirs.
  function keepFocus(act) {
    const { activeElement: old } = document;
    const { id, selectionStart: start, selectionEnd: end } = old || {};
    act();
    const now = id && !old.isConnected && document.getElementById(id);
    if (!now) return;
    now.focus({ preventScroll: true });
    if (start != null && now.selectionStart != null) now.setSelectionRange(start, end);
  }

  // One that stood in another may be gone by now.
  function each(found, act) {
    for (const at of found) if (at?.isConnected) attempt(() => keepFocus(() => act(at)));
  }

  function show(element, detail) {
    const template = element.localName === "template";
    const { sseSwap, sseKey: key, sseAttr: pairs = "", sseTarget: target, sseMax: max } = element.dataset;
    const given = sseSwap || (template ? "append" : pairs && key == null ? "" : "text"); // attributes alone
    const [swap, name] = given.split(/:(.*)/);
    const give = !template && puts[swap];
    if (given && !give && !swaps[swap]) throw new Error(`no data-sse-swap="${given}" here`);
    const make = (list) => {
      if (!template) return line(list, detail, key);
      const clone = filled(element, detail);
      if (swap === "html") clone.prepend(...items(list, "template")); // which fill the list again
      return clone;
    };
    const self = template && !/before|after/.test(swap) ? element.parentNode : element;
    each(target ? all(target) : [self], (at) => {
      setAll(at, detail, pairs);
      if (give) give(at, detail, key, name);
      else if (template && !target && /^re/.test(swap)) renewed(at, make, swap === "remove");
      else if (given) swaps[swap](at, make, swap);
      const shown = max && /pend/.test(swap) ? items(at) : [];
      while (shown.length > max) (swap === "append" ? shown.shift() : shown.pop()).remove();
    });
  }

  // ---- fragments: HTML that the server has rendered ---------------------------------------------------------------

  const keep = (it) => it;
  const rules = { createHTML: keep, createScriptURL: keep };
  let policy;
  function trusted(method, it) {
    policy ||= window.trustedTypes ? trustedTypes.createPolicy("django-sse", rules) : rules;
    return policy[method](it);
  }

  function put({ target, swap, html }) {
    const template = document.createElement("template"); // scripts that are parsed here never run
    template.innerHTML = trusted("createHTML", html);
    each(all(target), (at) => swaps[swap](at, () => copy(template), swap));
  }

  // What a page's own code throws is reported, and never ends the stream.
  function attempt(act) {
    try {
      act();
    } catch (error) {
      setTimeout(() => { throw error; });
    }
  }

  // ---- the page's members of hubs ----------------------------------------------------------------------------------

  const members = new Set();
  let away = false; // in the back/forward cache, or frozen

  // Follows an address: tells its states, and shows its events.
  function makeMember(src, lastId, tell, show) {
    const url = new URL(src, document.baseURI);
    const topics = url.searchParams.getAll("topic");
    const shares = url.searchParams.has("share");
    const positions = segments(lastId);
    const me = { state: "connecting", positions, enter, exit, leave, post };
    let quit; // what leaves the hub that it is at
    let alone; // at a hub of its own
    url.searchParams.delete("topic");

    function enter() {
      members.add(me);
      ready.then(join);
    }

    function exit() {
      members.delete(me);
      leave();
    }

    function leave(hidden) {
      if (!quit || (hidden && !alone)) return;
      quit();
      quit = null;
    }

    function join() {
      if (quit || away || !members.has(me) || /closed|denied/.test(me.state)) return;
      try {
        if (shares && !alone && !polyfilled) return joinWorker();
      } catch {
        // There is none, or the page's policy forbids it.
      }
      const hub = makeHub(url.href, 0);
      alone = true;
      quit = () => hub.leave(me);
      hub.join(me, topics, lastId);
    }

    function joinWorker() {
      const shared = new SharedWorker(trusted("createScriptURL", worker), { name: url.href, extendedLifetime: true });
      const { port } = shared;
      let timer;
      let heard; // since the last beat; never, while it is undefined
      const fail = () => {
        alone = heard === undefined; // one that has died is replaced
        leave();
        join();
      };
      shared.onerror = fail;
      port.onmessage = ({ data }) => {
        heard = true;
        if (timer) post(data);
      };
      const beat = (wait) => {
        heard &&= false;
        port.postMessage([topics, lastId]);
        timer = setTimeout(() => (heard ? beat(10000) : fail()), wait);
      };
      quit = () => {
        timer = clearTimeout(timer);
        port.postMessage(0);
        port.close();
      };
      beat(4000);
    }

    // What a hub says.
    function post({ state = me.state, event, data: raw, id, at = [] }) {
      if (state === "alone") {
        leave();
        alone = true;
        return join();
      }
      if (state !== me.state) attempt(() => tell((me.state = state)));
      if (!event) return;
      const entry = !/^sse-(open|reset)$/.test(event);
      for (const [hash, segment] of at) {
        const own = positions.get(hash);
        if (own && entry && offset(segment) <= offset(own)) return;
        if (!own || event !== "sse-open") positions.set(hash, segment);
      }
      lastId = cursor([...positions.values()]) || id;
      let data = raw;
      try {
        data = JSON.parse(raw);
      } catch {
        // Text, then.
      }
      show({ event, data, raw, id: lastId }, entry ? at : []);
    }

    return me;
  }

  const streams = new Set(); // the elements in the page

  class Stream extends HTMLElement {
    connectedCallback() {
      const [src, id] = ["src", "last-id"].map((name) => this.getAttribute(name));
      this.member = this.member || makeMember(src, id, () => this.tell(), (...them) => this.show(...them));
      streams.add(this);
      this.member.enter();
      this.tell();
    }

    async disconnectedCallback() {
      await null; // moving an element disconnects and connects it in one go
      if (this.isConnected) return;
      this.member.exit();
      streams.delete(this);
      publishState();
    }

    // Tells the page; returns whether that has not prevented what we do about it.
    send(type, detail) {
      return this.dispatchEvent(new CustomEvent(type, { bubbles: true, cancelable: true, detail }));
    }

    tell() {
      publishState();
      this.send("sse-state", { state: this.member.state });
    }

    show(detail, at) {
      const { event, data, id } = detail;
      this.setAttribute("last-id", id); // a copy of the page goes on from here
      // Another element that follows the same topic need not show it again.
      for (const { member } of streams) {
        for (const [hash, segment] of at) {
          const own = member !== this.member && member.positions.get(hash);
          if (own && offset(segment) === offset(own) + 1) member.positions.set(hash, segment);
        }
      }
      if (this.send(event.startsWith("sse-") ? event : `sse:${event}`, detail)) {
        for (const [name, handler] of [...handlers]) {
          if (name === event || name === "*") attempt(() => handler(data, detail));
        }
        for (const element of all(`[data-sse-on~="${CSS.escape(event)}"]`)) attempt(() => show(element, detail));
        if (event === "sse-fragment") attempt(() => put(data));
      }
      if (event === "sse-open" && data.refused.length) console.warn("sse-refused", ...data.refused);
    }
  }

  // The page is as well as its worst stream.
  function publishState() {
    const states = [...streams].map((stream) => stream.member.state);
    const worst = ["denied", "closed", "reconnecting", "connecting", "open"].find((state) => states.includes(state));
    if (worst) page.sse = worst;
    else delete page.sse;
  }

  // ---- the page --------------------------------------------------------------------------------------------------

  // Every deferred script has had its turn to call sse.on() before the first event can come.
  const ready = new Promise((done) => {
    if (document.readyState === "complete") done();
    listen("DOMContentLoaded load", done);
  }).then(() => window.EventSource || !polyfill || new Promise((done) => {
    const element = document.createElement("script");
    Object.assign(element, { src: trusted("createScriptURL", polyfill), nonce, onload: done, onerror: done });
    document.head.append(element);
    polyfilled = true;
  }));

  // A page that is kept for the back button, or frozen, gives its place up, and goes on where it was.
  const go = (value) => () => {
    away = value;
    for (const member of members) member[away ? "leave" : "enter"]();
  };
  listen("pagehide freeze", go(true));
  listen("pageshow resume", go(false));

  // A browser has few sockets: a stream of the page's own is not kept for a tab that nobody sees.
  let hiding;
  listen("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => members.forEach((member) => member.leave(true)), 60000);
    else for (const member of members) member.enter();
  });

  window.sse = {
    on(name, handler) {
      const entry = [name, handler];
      handlers.add(entry);
      return () => handlers.delete(entry);
    },
    // A stream without an element, whose events come to the handler alone.
    connect(src, { lastId, onstate = keep } = {}, handler) {
      const member = makeMember(src, lastId, onstate, (detail) => attempt(() => handler(detail.data, detail)));
      member.enter();
      return { close: member.exit };
    },
    get state() {
      return page.sse || "";
    },
  };
  customElements.define("sse-stream", Stream);
})();
