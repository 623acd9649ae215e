// The admin's page of what goes on. Everything is put in as text.
"use strict";
(() => {
  const SAMPLES = 120;
  const COUNTED = ["opened", "entries", "heals", "missed", "unsent", "spills", "refusals", "unversioned", "failed"];
  const place = document.getElementById("sse-processes");
  const state = document.getElementById("sse-state");
  const template = document.getElementById("sse-process");
  const seen = new Map(); // a process's name to its section, its latest report and its samples

  const counts = (values) =>
    Object.entries(values).map(([name, count]) => `${name} ${count}`).join(", ") || "–";

  function row(cells) {
    const line = document.createElement("tr");
    for (const cell of cells) line.insertCell().textContent = cell;
    return line;
  }

  function draw(section, name, samples) {
    const most = Math.max(1, ...samples);
    const points = samples.map((value, index) => `${index},${29 - (28 * value) / most}`);
    section.querySelector(`[data-chart="${name}"]`).setAttribute("points", points.join(" "));
  }

  function add(report) {
    const section = template.content.firstElementChild.cloneNode(true);
    place.append(section);
    const one = { section, report, streams: [], rate: [] };
    seen.set(report.process, one);
    return one;
  }

  function show(report) {
    const one = seen.get(report.process) || add(report);
    const seconds = report.time - one.report.time;
    const rate = seconds > 0 ? (report.entries - one.report.entries) / seconds : 0;
    one.report = report;
    one.streams = [...one.streams, report.streams].slice(-SAMPLES);
    one.rate = [...one.rate, rate].slice(-SAMPLES);
    const set = (name, text) => { one.section.querySelector(`[data-field="${name}"]`).textContent = text; };
    set("process", report.process);
    set("streams", report.streams);
    set("rate", rate.toFixed(1));
    set("staleness", report.staleness === null ? "–" : `${report.staleness.toFixed(1)} s`);
    set("counted", COUNTED.filter((name) => name in report).map((name) => `${name} ${report[name]}`).join(", "));
    for (const name of ["ends", "resets", "topics", "users"]) set(name, counts(report[name]));
    draw(one.section, "streams", one.streams);
    draw(one.section, "rate", one.rate);
    one.section.querySelector('[data-field="incidents"]').replaceChildren(
      ...report.incidents.slice(-50).reverse().map((incident) =>
        row([
          new Date(incident.time * 1000).toLocaleTimeString(),
          incident.kind,
          incident.reason,
          incident.user || "–",
          incident.topics.join(", "),
        ])
      )
    );
  }

  const source = new EventSource(place.dataset.stream);
  const tell = (name) => { state.textContent = state.dataset[name]; state.dataset.state = name; };
  source.addEventListener("error", () => tell("lost"));
  source.addEventListener("status", (event) => {
    const reports = JSON.parse(event.data);
    const names = new Set(reports.map((report) => report.process));
    for (const [name, one] of seen) if (!names.has(name)) { one.section.remove(); seen.delete(name); }
    reports.forEach(show);
    tell("live");
  });
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
})();
