"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const shown = { from: page.first, to: page.last };

const element = (tag, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
};
const addDays = (day, days) => day && new Date(Date.parse(day) + days * 864e5).toISOString().slice(0, 10);
const inRange = rows => rows.filter(([day]) => day >= shown.from && day <= shown.to);
const number = (value, unit) => value === null || value === undefined ? "–"
  : unit === "share" ? (100 * value).toFixed(1) + " %" : Math.round(value).toLocaleString("en");

const chosen = chart => inRange(chart.rows).filter(row => !chart.choice || row[3] === chart.chosen);

function spec(chart, rows) {
  const base = chart.specs[chart.choice ? chart.chosen : ""];
  const drawn = { ...base, width: "container", data: { values: rows.map(([day, series, value]) => ({ day, series, value })) }, config: page.looks[root.dataset.theme] };
  return base?.mark?.type === "line" ? { ...drawn, mark: { ...base.mark, point: rows.length < 90 } } : drawn;
}

function download(chart) {
  const quoted = value => value === null ? "" : /^[=+@\t\r-]/.test(value) && isNaN(value) ? `"'${String(value).replaceAll('"', '""')}"` : `"${String(value).replaceAll('"', '""')}"`;
  const lines = [["day", "series", chart.unit], ...chosen(chart)].map(row => row.slice(0, 3).map(quoted).join(","));
  const link = element("a", { download: `${chart.id}${chart.choice ? `-${chart.chosen}` : ""}.csv`, href: URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" })) });
  link.click();
  URL.revokeObjectURL(link.href);
}

function tiles() {
  const list = document.getElementById("tiles");
  list.replaceChildren();
  for (const tile of page.tiles) {
    const rows = inRange(tile.rows), last = rows.at(-1);
    const before = last && rows.find(([day]) => day === addDays(last[0], -7));
    const change = before && before[2] ? (last[2] / before[2] - 1) * 100 : null;
    const note = last ? `${last[0]}${change === null ? "" : `, ${change >= 0 ? "+" : "−"}${Math.abs(change).toFixed(1)} % on 7 days before`}` : "no day shown";
    list.append(element("div", {}, element("dt", { textContent: tile.title }),
      element("dd", {}, number(last?.[2], tile.unit), element("small", { textContent: note }))));
  }
}

function drawOne(chart) {
  if (chart.choice && chart.chosen === undefined) return null; // there are no rows to choose from
  return vegaEmbed(`#${chart.id} .chart`, spec(chart, chosen(chart)), { actions: false, renderer: "svg" });
}

async function draw() {
  document.getElementById("from").value = shown.from;
  document.getElementById("to").value = shown.to;
  for (const button of document.querySelectorAll("[data-days]")) {
    const days = Number(button.dataset.days);
    const first = days ? addDays(page.last, 1 - days) : page.first;
    button.setAttribute("aria-pressed", String(shown.to === page.last && shown.from === first));
  }
  tiles();
  await Promise.all(page.charts.map(drawOne));
  root.dataset.drawn = "yes";
}

function theme(name) {
  root.dataset.theme = name;
  return draw();
}

for (const chart of page.charts) {
  const button = element("button", { type: "button", textContent: "CSV", title: "Download the days shown" });
  button.addEventListener("click", () => download(chart));
  const picker = [];
  if (chart.choice) {
    chart.chosen = Object.keys(chart.specs)[0];
    const select = element("select", {}, ...Object.keys(chart.specs).map(value => element("option", { value, textContent: value.replaceAll("_", " ") })));
    select.addEventListener("change", () => { chart.chosen = select.value; drawOne(chart); });
    picker.push(element("label", { textContent: `${chart.choice} ` }, select));
  }
  document.getElementById("charts").append(element("article", { id: chart.id },
    element("header", {}, element("h2", { textContent: chart.title }), ...picker, button),
    element("details", {}, element("summary", { textContent: "What it means" }), chart.definition),
    element("div", { className: "chart", role: "img", ariaLabel: chart.title })));
}
document.getElementById("fresh").textContent = page.fresh;
document.getElementById("range").addEventListener("click", event => {
  const days = event.target.dataset.days;
  if (days === undefined) return;
  shown.to = page.last;
  shown.from = Number(days) ? [addDays(page.last, 1 - days), page.first].sort().at(-1) : page.first;
  draw();
});
for (const end of ["from", "to"]) document.getElementById(end).addEventListener("change", event => {
  if (!event.target.value) return;
  shown[end] = event.target.value;
  if (shown.from > shown.to) shown.from = shown.to = event.target.value;
  draw();
});
document.getElementById("theme").addEventListener("click", () => theme(root.dataset.theme === "dark" ? "light" : "dark"));
theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
