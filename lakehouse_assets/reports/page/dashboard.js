"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const find = id => document.getElementById(id);
const partial = Object.fromEntries(Object.entries(page.partial).map(([covers, days]) => [covers, new Set(days)]));
const WEEKS = { "1w": 1, "4w": 4, "13w": 13, "52w": 52 };
const PERIODS = new Set(["week", "month"]);

const element = (tag, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
};
const addDays = (day, days) => day && new Date(Date.parse(day) + days * 864e5).toISOString().slice(0, 10);
const daysBetween = (first, last) => Math.round((Date.parse(last) - Date.parse(first)) / 864e5);
const later = (one, other) => one > other ? one : other;
const earlier = (one, other) => one < other ? one : other;
const day = text => new Date(text).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const span = (first, last) => first === last ? day(first) : `${day(first)} – ${day(last)}`;
const number = (value, unit) => value === null || value === undefined || Number.isNaN(value) ? "–"
  : unit === "share" ? (100 * value).toFixed(1) + "\u00a0%"
  : unit === "correlation" ? value.toFixed(2)
  : value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0 });
const capitalised = text => text.replaceAll("_", " ");

// the last and the first whole day: days that are not over, or begin before the first delivery, are compared with nothing
let lastWhole = page.last, firstWhole = page.first;
while (partial.day.has(lastWhole) && lastWhole > page.first) lastWhole = addDays(lastWhole, -1);
while (partial.day.has(firstWhole) && firstWhole < lastWhole) firstWhole = addDays(firstWhole, 1);

// -- what is shown, as the address says it -------------------------------------------------------------------------------

const shown = { range: "", from: "", to: "", compare: false, at: "" };

function setRange(range) {
  shown.range = range;
  shown.to = page.last;
  shown.from = WEEKS[range] ? later(addDays(lastWhole, 1 - 7 * WEEKS[range]), page.first) : page.first;
}

/** 13 weeks, or as many as there are twice. */
function comparable() {
  return ["13w", "4w", "1w"].find(range => daysBetween(firstWhole, lastWhole) + 1 >= 14 * WEEKS[range]) ?? "all";
}

function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const isDay = text => /^\d{4}-\d{2}-\d{2}$/.test(text ?? "") && !Number.isNaN(Date.parse(text));
  setRange(asked.get("range") in WEEKS || asked.get("range") === "all" ? asked.get("range") : comparable());
  if (isDay(asked.get("from")) && isDay(asked.get("to")) && asked.get("from") <= asked.get("to"))
    Object.assign(shown, { range: "", from: asked.get("from"), to: asked.get("to") });
  shown.compare = asked.get("compare") === "1";
  shown.at = find(asked.get("at") ?? "") ? asked.get("at") : "";
  for (const chart of page.charts) if (chart.choice) {
    const choices = Object.keys(chart.specs), chosen = asked.get(chart.id);
    chart.chosen = choices.includes(chosen) ? chosen : choices[0];
    if (chart.select) chart.select.value = chart.chosen;
  }
}

function address(at = shown.at) {
  const said = new URLSearchParams(shown.range ? { range: shown.range } : { from: shown.from, to: shown.to });
  if (shown.compare) said.set("compare", "1");
  for (const chart of page.charts) if (chart.choice && chart.chosen !== undefined && chart.chosen !== Object.keys(chart.specs)[0]) said.set(chart.id, chart.chosen);
  if (at) said.set("at", at);
  return `#${said}`;
}

function keepAddress() {
  history.replaceState(null, "", address());
  for (const link of document.querySelectorAll("a[data-at]")) link.href = address(link.dataset.at);
}

function goTo(at) {
  shown.at = at;
  for (const article of document.querySelectorAll("article")) article.classList.toggle("linked", article.id === at);
  if (at) find(at).scrollIntoView();
}

// -- the days before --------------------------------------------------------------------------------------------------

/** The whole days of the range, and as many days before them; without those, null. */
function compared() {
  const from = later(shown.from, firstWhole), to = earlier(shown.to, lastWhole);
  if (!to || from > to) return null;
  const days = daysBetween(from, to) + 1;
  const before = { from: addDays(from, -days), to: addDays(from, -1) };
  return { from, to, days, before: before.from >= firstWhole ? before : null };
}

function figure(card, from, to) {
  const rows = card.rows.filter(([date, value]) => date >= from && date <= to && value !== null && !partial[card.covers].has(date));
  if (!rows.length) return null;
  const sum = column => rows.reduce((total, row) => total + row[column], 0);
  if (card.how === "last") return rows.at(-1)[0] === to ? rows.at(-1)[1] : null;
  if (card.how === "mean") return sum(1) / rows.length;
  if (card.how === "sum") return sum(1);
  return sum(2) ? sum(1) / sum(2) : null;
}

function change(card, now, then) {
  if (now === null || then === null) return ["", null];
  if (card.unit === "share") return [`${now >= then ? "+" : "−"}${Math.abs(100 * (now - then)).toFixed(1)} points`, now - then];
  if (!then) return ["", null];
  return [`${now >= then ? "+" : "−"}${Math.abs((now / then - 1) * 100).toFixed(1)} %`, now - then];
}

function spark(card, from, to) {
  const rows = card.rows.filter(([date]) => date >= from && date <= to && !partial[card.covers].has(date))
    .map(([date, value, of]) => [daysBetween(from, date), card.how === "ratio" ? (of ? value / of : null) : value]).filter(([, value]) => value !== null);
  if (rows.length < 3) return "";
  const values = rows.map(([, value]) => value), low = Math.min(...values), high = Math.max(...values), width = daysBetween(from, to) || 1;
  const points = rows.map(([x, value]) => `${(100 * x / width).toFixed(1)},${(30 - 28 * (value - low) / (high - low || 1)).toFixed(1)}`).join(" ");
  const holder = element("dd", { className: "sparkline" });
  holder.setAttribute("aria-hidden", "true");
  holder.innerHTML = `<svg class="spark" viewBox="0 0 100 32" preserveAspectRatio="none"><polyline points="${points}"/></svg>`;
  return holder;
}

function cards() {
  const days = compared(), list = find("cards");
  list.replaceChildren();
  const notOver = [...partial.day].filter(date => date > lastWhole && date >= shown.from && date <= shown.to);
  find("compared").textContent = !days ? "No whole day is shown."
    : `${days.days === 1 ? "1 day" : `${days.days} whole days`}, ${span(days.from, days.to)}, `
    + (days.before ? `against the ${days.days === 1 ? "day" : days.days} before.` : "with no whole period of that length before.")
    + (notOver.length ? ` ${notOver.map(day).join(", ")} is not over and is not counted.` : "");
  for (const card of page.cards) {
    const now = days && figure(card, days.from, days.to);
    const then = days?.before ? figure(card, days.before.from, days.before.to) : null;
    const [text, by] = change(card, now, then);
    const good = card.chart === "rejected-rows-by-reason" ? -1 : 1;
    const note = element("dd", { className: "change" });
    if (by === null) note.append(days?.before ? "nothing to compare with" : "no days before");
    else note.append(element("b", { textContent: text, className: by === 0 ? "" : by * good > 0 ? "better" : "worse" }), ` from ${number(then, card.unit)}`);
    const link = element("a", { textContent: card.title, title: card.definition });
    link.dataset.at = card.chart;
    list.append(element("div", {}, element("dt", {}, link), element("dd", { className: "value", textContent: number(now, card.unit) }), days ? spark(card, days.from, days.to) : "", note));
  }
}

// -- charts -----------------------------------------------------------------------------------------------------------

const coversOf = (chart, series) => typeof chart.covers === "string" ? chart.covers : chart.covers[series];

/** The day that a week or month begins with which a day belongs to. */
function periodFirst(chart, date) {
  if (chart.covers === "month") return date.slice(0, 8) + "01";
  return chart.covers === "week" ? addDays(date, -((new Date(date).getUTCDay() + 6) % 7)) : date;
}

function chosen(chart, from = shown.from, to = shown.to) {
  const first = from && periodFirst(chart, chart.least_days ? earlier(from, addDays(to, 1 - chart.least_days)) : from);
  return chart.rows.filter(row => row[0] >= first && row[0] <= to && (!chart.choice || row[3] === chart.chosen));
}

/** The rows before the range, each on the day that it is compared with. */
function before(chart) {
  const days = daysBetween(shown.from, shown.to) + 1;
  if (!shown.compare || !chart.compared || PERIODS.has(chart.covers)) return [];
  return chosen(chart, addDays(shown.from, -days), addDays(shown.to, -days))
    .filter(([date, series]) => !partial[coversOf(chart, series)].has(date))
    .map(([date, series, value]) => ({ day: addDays(date, days), series, value, before: true }));
}

function spec(chart) {
  const rows = chosen(chart), base = chart.specs[chart.choice ? chart.chosen : ""];
  const values = rows.map(([date, series, value]) => ({ day: date, series, value, partial: partial[coversOf(chart, series)].has(date) }));
  const drawn = { ...base, width: "container", data: { values: [...values, ...before(chart)] }, config: page.config };
  if (base.layer?.[0].mark.type !== "line" || rows.length >= 90) return drawn;
  const [line, ...layers] = base.layer; // few values are shown as points too
  return { ...drawn, layer: [{ ...line, mark: { ...line.mark, point: true } }, ...layers] };
}

function inWords(chart, rows) {
  const newest = rows.at(-1)?.[0];
  if (!newest) return `${chart.title}: no figures from ${shown.from} to ${shown.to}`;
  const told = rows.filter(([date]) => date === newest).slice(0, 9).map(([, series, value]) => `${series} ${number(value, chart.unit)}`);
  return `${chart.title}, ${chart.unit}, ${day(rows[0][0])} to ${day(newest)}. Newest: ${told.join(", ")}`;
}

async function drawOne(chart) {
  const rows = chosen(chart), [holder] = document.querySelectorAll(`#${chart.id} .chart`);
  holder.ariaLabel = inWords(chart, [...rows].sort(([one], [other]) => one < other ? -1 : 1));
  numbers(chart);
  if (rows.length && (!chart.choice || chart.chosen !== undefined)) {
    holder.classList.remove("empty");
    return vegaEmbed(holder, spec(chart), { actions: false, renderer: "svg", logLevel: 1 });
  }
  holder.classList.add("empty");
  holder.textContent = "No figures on the days shown";
}

function numbers(chart) {
  const details = document.querySelector(`#${chart.id} .as-numbers`), holder = details.querySelector(".numbers");
  holder.replaceChildren();
  if (!details.open) return;
  const rows = chosen(chart), series = [...new Set(rows.map(row => row[1]))], byDay = new Map();
  for (const [date, name, value] of rows) byDay.set(date, { ...byDay.get(date), [name]: value });
  const head = element("tr", {}, ...["day", ...series].map(name => element("th", { scope: "col", textContent: name })));
  const body = [...byDay].sort(([one], [other]) => one < other ? 1 : -1).map(([date, values]) => element("tr", {},
    element("th", { scope: "row", textContent: date + (series.some(name => partial[coversOf(chart, name)].has(date)) ? " *" : "") }),
    ...series.map(name => element("td", { textContent: number(values[name], chart.unit) }))));
  holder.append(element("table", {}, element("caption", { textContent: `${chart.title}, ${chart.unit}; * not the whole period` }), element("thead", {}, head), element("tbody", {}, ...body)));
}

function download(chart) {
  const quoted = value => value === null ? "" : /^[=+@\t\r-]/.test(value) && isNaN(value) ? `"'${String(value).replaceAll('"', '""')}"` : `"${String(value).replaceAll('"', '""')}"`;
  const rows = chosen(chart).map(([date, series, value]) => [date, series, value, partial[coversOf(chart, series)].has(date)]);
  const lines = [["day", "series", chart.unit, "is_partial"], ...rows].map(row => row.map(quoted).join(","));
  const link = element("a", { download: `${chart.id}${chart.choice ? `-${chart.chosen}` : ""}.csv`, href: URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" })) });
  link.click();
  URL.revokeObjectURL(link.href);
}

async function draw() {
  delete root.dataset.drawn;
  find("from").value = shown.from;
  find("to").value = shown.to;
  for (const button of document.querySelectorAll("[data-range]")) button.setAttribute("aria-pressed", String(button.dataset.range === shown.range));
  find("compare").setAttribute("aria-pressed", String(shown.compare));
  root.toggleAttribute("data-compare", shown.compare);
  cards();
  keepAddress();
  await Promise.all(page.charts.map(drawOne));
  root.dataset.drawn = "yes";
}

// -- the page ---------------------------------------------------------------------------------------------------------

function build() {
  const entry = (id, title) => {
    const link = element("a", { textContent: title });
    link.dataset.at = id;
    return element("li", {}, link);
  };
  find("contents").append(entry("summary", "At a glance"));
  for (const section of page.sections) {
    const charts = page.charts.filter(chart => chart.section === section.id);
    if (!charts.length) continue;
    find("contents").append(entry(section.id, section.title));
    const title = element("h2", { id: `${section.id}-title`, textContent: section.title });
    const made = element("section", { id: section.id }, title, element("div", { className: "charts" }, ...charts.map(article)));
    made.setAttribute("aria-labelledby", title.id);
    find("main").append(made);
  }
}

function article(chart) {
  const title = element("h3", { textContent: chart.title + " " });
  const link = element("a", { className: "link", textContent: "#", title: "Link to this chart" });
  link.dataset.at = chart.id;
  link.ariaLabel = `Link to ${chart.title}`;
  title.append(link);
  const button = element("button", { type: "button", textContent: "CSV", title: "Download the days shown", ariaLabel: `Download ${chart.title} as CSV` });
  button.addEventListener("click", () => download(chart));
  const picker = [];
  if (chart.choice) {
    chart.select = element("select", {}, ...Object.keys(chart.specs).map(value => element("option", { value, textContent: capitalised(value) })));
    chart.select.addEventListener("change", () => { chart.chosen = chart.select.value; keepAddress(); drawOne(chart); });
    picker.push(element("label", { textContent: `${chart.choice} ` }, chart.select));
  }
  const asNumbers = element("details", { className: "as-numbers" }, element("summary", { textContent: "Numbers" }), element("div", { className: "numbers", tabIndex: 0 }));
  asNumbers.addEventListener("toggle", () => numbers(chart));
  return element("article", { id: chart.id },
    element("header", {}, title, ...picker, button),
    element("div", { className: "notes" },
      element("details", {}, element("summary", { textContent: "What it means" }), element("p", { textContent: chart.definition })), asNumbers),
    element("div", { className: "chart", role: "img" }));
}

function followScrolling() {
  const links = new Map([...document.querySelectorAll("nav a")].map(link => [link.dataset.at, link]));
  const seen = new Set();
  const watcher = new IntersectionObserver(entries => {
    for (const { target, isIntersecting } of entries) seen[isIntersecting ? "add" : "delete"](target.id);
    const current = [...links.keys()].find(id => seen.has(id));
    for (const [id, link] of links) id === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }, { rootMargin: "-70px 0px -60% 0px" });
  for (const id of links.keys()) watcher.observe(find(id));
}

build();
find("fresh").textContent = page.fresh;
root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
find("theme").addEventListener("click", () => { root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark"; });
find("compare").addEventListener("click", () => { shown.compare = !shown.compare; draw(); });
find("range").addEventListener("click", event => {
  if (!event.target.dataset.range) return;
  setRange(event.target.dataset.range);
  draw();
});
for (const end of ["from", "to"]) find(end).addEventListener("change", event => {
  if (!event.target.value) return;
  Object.assign(shown, { range: "", [end]: event.target.value });
  if (shown.from > shown.to) shown.from = shown.to = event.target.value;
  draw();
});
document.addEventListener("click", event => {
  const link = event.target.closest("a[data-at]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  goTo(link.dataset.at);
  keepAddress();
});
window.addEventListener("hashchange", () => { readAddress(); draw().then(() => goTo(shown.at)); });
readAddress();
draw().then(() => { if (shown.at) goTo(shown.at); followScrolling(); });
