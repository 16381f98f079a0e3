// Charts, by plotly's library, which this gateway serves itself. The page's figures do not wait
// for it: it is large, and asked for once they are shown.

import { percent, usd } from "./format.js";

let loading;

const address = document.querySelector("script[data-charts]").dataset.charts;

/** Brings the library to the browser; it is not read before there is something to draw. */
export function fetchAhead() {
  if (loading) return;
  const hint = document.createElement("link");
  Object.assign(hint, { rel: "preload", as: "script", href: address, fetchPriority: "low" });
  document.head.append(hint);
}

export function load() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    const create = document.createElement;
    // As it loads it would write the styles of its maps into the page, which the page's policy
    // forbids and no chart here needs: it writes them into something inert.
    document.createElement = (name, ...more) =>
      create.call(document, name === "style" ? "template" : name, ...more);
    const loaded = () => delete document.createElement;
    script.src = address;
    script.onload = () => resolve(loaded() && globalThis.Plotly);
    script.onerror = () => loaded() && reject(new Error("The chart library could not be loaded."));
    document.head.append(script);
  });
  return loading;
}

const HUES = ["--hue-1", "--hue-2", "--hue-3", "--hue-4", "--hue-5", "--hue-6", "--hue-7", "--hue-8"];
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset", scrollZoom: false };

function palette() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(name).trim();
}

/** A colour a name, the same on every chart and at every refresh. */
export function hue(name, names) {
  if (name === "none") return "--muted";
  const known = names.filter((one) => one !== "none");
  return HUES[Math.max(known.indexOf(name), 0) % HUES.length];
}

function layout(colour, more) {
  const axis = {
    gridcolor: colour("--line"), zeroline: false, linecolor: colour("--line"),
    tickfont: { color: colour("--muted") }, automargin: true, fixedrange: true,
  };
  const { xaxis, yaxis, ...rest } = more;
  const narrow = matchMedia("(max-width: 600px)").matches;
  return {
    height: narrow ? 270 : 250, margin: { l: 8, r: 8, t: 8, b: 8 }, bargap: 0.15,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("--ink") },
    hoverlabel: { namelength: -1, bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
    showlegend: true,
    // Below everything, however many lines it has.
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", font: { color: colour("--muted") } },
    hovermode: "x unified",
    xaxis: { ...axis, showgrid: false, tickangle: 0, ...xaxis },
    yaxis: { ...axis, rangemode: "tozero", nticks: 5, ...yaxis },
    ...rest,
  };
}

/** The day under the first hour of it, without its year. */
const DATES = [
  { dtickrange: [null, 86_399_999], value: "%H:%M\n%b %-d" },
  { dtickrange: [86_400_000, null], value: "%b %-d" },
];

/** After what is there now has been painted; a page that is out of sight paints nothing. */
const painted = () =>
  new Promise((resolve) => {
    const soon = setTimeout(resolve, 100);
    requestAnimationFrame(() => {
      clearTimeout(soon);
      setTimeout(resolve);
    });
  });

/** What each place is to show, until it shows it. */
const wanted = new Map();
let painting = null;

/** A chart that is out of sight is drawn when somebody comes near it: drawing holds the page up. */
function inSight(place) {
  const { top, bottom } = place.getBoundingClientRect();
  return top < innerHeight * 1.25 && bottom > -innerHeight * 0.25;
}

const scrolled = new IntersectionObserver(() => paint().catch(() => {}), { rootMargin: "25% 0px" });
for (const place of document.querySelectorAll(".plot")) scrolled.observe(place);

/** Draws what is in sight and not up to date, a chart at a time; the newest data count. */
export function paint() {
  painting ??= paintAll().finally(() => (painting = null));
  return painting;
}

async function paintAll() {
  for (;;) {
    // Reading the library and drawing hold the page up: figures, and each chart, are shown between.
    await painted();
    const id = [...wanted.keys()].find((one) => inSight(document.getElementById(one)));
    if (id === undefined) return;
    const Plotly = await load();
    const { label, traces, more } = wanted.get(id);
    wanted.delete(id);
    const place = document.getElementById(id);
    const colour = palette();
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", label);
    await Plotly.react(place, traces(colour), layout(colour, more), CONFIG);
  }
}

/** A line through values, some of them missing: one that stands alone is seen by its dot. */
function dotted(y) {
  const alone = y.map((_, at) => y[at - 1] == null && y[at + 1] == null);
  const marker = { size: alone.map((one) => (one ? 7 : 3)), opacity: 1, line: { width: 0 } };
  return { type: "scatter", mode: "lines+markers", y, marker, connectgaps: false };
}

function draw(id, label, traces, more = {}) {
  wanted.set(id, { label, traces, more });
}

/** Every chart over time. */
export function overTime(told) {
  const { series, starts, since, until, step_seconds } = told;
  const x = starts.map((at) => new Date(at * 1000));
  // What is of a step stands over all of it.
  const over = { x, xperiod: step_seconds * 1000 };
  const xaxis = { type: "date", range: [new Date(since * 1000), new Date(until * 1000)], nticks: 7, tickformatstops: DATES };
  const bars = (groups, names) => (colour) =>
    groups.map(({ name, series: y }) => ({
      ...over, type: "bar", name: name === "none" ? "no answer" : name, y,
      marker: { color: colour(hue(name, names)) },
    }));
  const lines = (name) => (colour) =>
    [["p50", "--hue-1"], ["p95", "--hue-2"], ["p99", "--hue-6"]].map(([word, at]) => ({
      ...over, ...dotted(series[name][word]), name: word, line: { color: colour(at), width: 2 },
    }));
  const counts = (...stacked) => {
    const most = Math.max(...starts.map((_, at) => stacked.reduce((sum, each) => sum + each[at], 0)));
    return most < 5 ? { dtick: 1, range: [0, Math.max(most, 1) * 1.1] } : {};
  };
  const timed = { xaxis, yaxis: { ticksuffix: "s", hoverformat: ".3~s", tickformat: ".3~s" } };
  draw("plot-spend", "Spend over time, and without routing", (colour) => [
    { ...over, type: "bar", name: "spent", y: series.cost_usd, marker: { color: colour("--hue-1") } },
    {
      ...over, type: "scatter", mode: "lines", name: "without routing",
      // A step more on either side, or half of the first and of the last would have no line.
      x: [new Date((since - step_seconds) * 1000), ...x, new Date(until * 1000)],
      y: [series.unrouted_usd[0], ...series.unrouted_usd, series.unrouted_usd.at(-1)],
      line: { color: colour("--hue-2"), width: 2, shape: "hvh" },
    },
  ], { xaxis, yaxis: { tickprefix: "$", hoverformat: ".3~g", tickformat: "~g" } });
  draw("plot-models", "Requests by model over time", bars(told.models, told.names.models), { xaxis, yaxis: counts(series.requests), barmode: "stack" });
  draw("plot-routes", "Requests by route over time", bars(told.routes, told.names.routes), { xaxis, yaxis: counts(series.requests), barmode: "stack" });
  draw("plot-quality", "Predicted quality over time", (colour) => [
    {
      ...over, ...dotted(series.quality_best), name: "best candidate",
      line: { color: colour("--muted"), width: 1.5, dash: "dot" },
    },
    { ...over, ...dotted(series.quality), name: "what served", line: { color: colour("--hue-3"), width: 2 } },
  ], { xaxis, yaxis: { range: [0, 1], tickformat: ".0%", hoverformat: ".1%" } });
  draw("plot-duration", "Latency over time", lines("duration"), timed);
  draw("plot-first_token", "Time to first token over time", lines("first_token"), timed);
  draw("plot-overhead", "Gateway overhead over time", lines("overhead"), timed);
  draw("plot-errors", "Errors and fallbacks over time", (colour) => [
    { ...over, type: "bar", name: "failed or refused", y: series.failed, marker: { color: colour("--bad") } },
    { ...over, type: "bar", name: "fallbacks", y: series.fallbacks, marker: { color: colour("--hue-2") } },
  ], { xaxis, yaxis: counts(series.failed, series.fallbacks), barmode: "stack" });
}

/** The curve the routes could stand on, and where they stand. */
export function tradeoff(told, names) {
  const x = (points) => points.map((one) => one.cost_usd * 1000);
  const y = (points) => points.map((one) => one.quality);
  const text = (points) => points.map((one) => `${usd(one.cost_usd * 1000)} per thousand, ${percent(one.quality)}`);
  const point = told.point ? [told.point] : [];
  draw("plot-tradeoff", "Predicted quality against expected cost", (colour) => [
    {
      type: "scatter", mode: "lines", name: "best trade-off", x: x(told.curve), y: y(told.curve),
      text: text(told.curve), hovertemplate: "%{text}<extra>best trade-off</extra>",
      line: { color: colour("--hue-1"), width: 2 },
    },
    ...told.models.map((one) => ({
      type: "scatter", mode: "markers", name: `always ${one.name}`, x: x([one]), y: y([one]),
      text: text([one]), hovertemplate: `%{text}<extra>always ${one.name}</extra>`,
      marker: { color: colour(hue(one.name, names)), size: 9, symbol: "circle-open", line: { width: 2 } },
    })),
    {
      type: "scatter", mode: "markers", name: "where we are", x: x(point), y: y(point),
      text: text(point), hovertemplate: "%{text}<extra>where we are</extra>",
      marker: { color: colour("--good"), size: 15, symbol: "star" },
    },
  ], {
    hovermode: "closest",
    xaxis: { title: { text: "expected cost of a thousand requests", standoff: 8 }, tickprefix: "$", rangemode: "tozero", nticks: 6 },
    yaxis: { rangemode: "normal", tickformat: ".0%" },
    height: 300,
  });
}
