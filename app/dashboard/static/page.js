// The page: what is asked for, what is shown of it, and when it is asked for again.

import * as charts from "./charts.js";
import { Refused, download, json, key } from "./data.js";
import * as decisions from "./decisions.js";
import { clock, element as e, percent, score, seconds, usd, whole } from "./format.js";

const at = (id) => document.getElementById(id);
const EVERY_SECONDS = { "15m": 5, "1h": 5, "24h": 15, "7d": 60, "30d": 60 };
let timer;
let asking;
let told;
let curve;

function wanted() {
  const form = new FormData(at("filters"));
  return Object.fromEntries([...form].filter(([, value]) => value !== ""));
}

/** What is shown is in the address: it outlasts a reload, and can be handed on. */
function fromAddress() {
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = at("filters").elements[name];
    if (name === "range" && value in EVERY_SECONDS) field.value = value;
    else if (name === "route" || name === "model") field.add(e("option", { value, selected: true }, value));
  }
}

function toAddress() {
  history.replaceState(null, "", `?${new URLSearchParams(wanted())}`);
}

/** `anew`: for other filters than before. */
async function refresh({ anew = false } = {}) {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  const asked = wanted();
  try {
    const listing = decisions.refresh(asked, { anew, signal: mine.signal });
    const weighing = json("tradeoff", asked, mine.signal);
    const standing = json("deployments", {}, mine.signal);
    for (const one of [listing, weighing, standing]) one.catch(() => {}); // told of below
    charts.fetchAhead();
    told = await json("overview", asked, mine.signal);
    show(told);
    deployments((await standing).data);
    await listing;
    document.body.dataset.figures = asked.range;
    performance.mark("figures");
    curve = await weighing;
    at("trouble").hidden = true;
    state("ok", `As of ${new Date().toLocaleTimeString("en", { hour12: false })}`);
    await drawCharts();
    if (!mine.signal.aborted) document.body.dataset.charts = asked.range;
    performance.mark("charts");
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    if (error instanceof Refused) {
      askForKey(error.message);
      return;
    }
    at("trouble").textContent = error.message;
    at("trouble").hidden = false;
    state("bad", "Not up to date");
  }
  again();
}

function again() {
  clearTimeout(timer);
  if (at("follow").checked && !document.hidden) {
    timer = setTimeout(refresh, EVERY_SECONDS[wanted().range] * 1000);
  }
}

function state(kind, words) {
  at("dot").className = `dot ${kind}`;
  if (at("live").textContent !== words) at("live").textContent = words;
}

function askForKey(why) {
  clearTimeout(timer);
  const had = key.get() !== null;
  key.forget();
  at("main").hidden = true;
  at("forget").hidden = true;
  at("door").hidden = false;
  if (had) at("door-why").textContent = why;
  at("door-why").classList.toggle("bad", had);
  state("", "Waiting for a key");
  at("key").focus();
}

function show(told) {
  at("main").hidden = false;
  at("door").hidden = true;
  at("forget").hidden = key.get() === null;
  options(at("route"), told.names.routes);
  options(at("model"), told.names.models);
  const partial = told.complete_from !== null && told.complete_from > told.since;
  at("partial").hidden = !partial;
  if (partial) at("partial").textContent = `Sums of what came before ${new Date(told.complete_from * 1000).toLocaleString("en")} are still being made.`;
  answers(told);
  shares(told);
  upstreams(told);
  for (const [name, times] of Object.entries(told.latency)) {
    at(`lat-${name}`).textContent = times.count
      ? `p50 ${seconds(times.p50)}, p95 ${seconds(times.p95)}, p99 ${seconds(times.p99)}`
      : "none yet";
  }
}

function options(select, names) {
  const chosen = select.value;
  const all = chosen && !names.includes(chosen) ? [...names, chosen] : names;
  const words = ["", ...all];
  if (words.join("\n") === [...select.options].map((one) => one.value).join("\n")) return;
  select.replaceChildren(
    ...words.map((name) => e("option", { value: name }, { "": "all", none: "no answer" }[name] ?? name)),
  );
  select.value = chosen;
}

function answers({ total, latency, upstreams: known }) {
  const requests = total.requests;
  at("spend").textContent = usd(total.cost_usd);
  at("spend").title = total.cost_usd === null ? "" : `$${total.cost_usd}`;
  const missing = total.unpriced ? `, ${whole(total.unpriced)} at an unknown cost` : "";
  at("spend-sub").textContent = requests
    ? `${whole(requests)} requests, ${usd((Number(total.cost_usd ?? 0) / requests) * 1000)} per thousand${missing}`
    : "No request in this time range";

  const saved = Number(total.saved_usd);
  const baseline = Number(total.baseline_usd);
  at("saved").textContent = usd(total.saved_usd);
  at("saved").title = `$${total.saved_usd}`;
  at("saved-sub").textContent = baseline
    ? `${percent(saved / baseline)} of ${usd(total.baseline_usd)} at the baseline, net of failed attempts`
    : "Nothing to compare with yet";

  const { predicted } = total;
  at("quality").textContent = predicted ? percent(predicted.served / predicted.best) : "–";
  at("quality-sub").textContent = predicted
    ? `of the best candidate's: predicted ${score(predicted.served)} where ${score(predicted.best)} was to be had`
    : "Nothing was predicted in this time range";

  const broke = total.failed - total.refused;
  const failing = requests ? broke / requests : 0;
  const broken = known.filter((one) => one.failed > one.attempts * 0.05);
  const bad = failing > 0.01;
  const worn = bad || broken.length > 0;
  at("health").textContent = !requests ? "–" : bad ? `${percent(failing)} fail` : broken.length ? "Upstream trouble" : "All well";
  at("health").className = `figure ${!requests ? "" : bad ? "bad" : worn ? "warn" : "good"}`;
  const ailing = broken.map((one) => `${one.name} fails ${percent(one.failed / one.attempts)} of its attempts; `);
  at("health-sub").textContent = requests
    ? `${ailing.join("")}p95 ${seconds(latency.duration.p95)}, overhead p95 ${seconds(latency.overhead.p95)}, ${whole(broke)} failed, ${whole(total.refused)} refused, ${whole(total.fallbacks)} fallbacks`
    : "";
  const statuses = Object.entries(total.statuses).map(([status, count]) => `${whole(count)} × ${status}`);
  at("errors-lead").textContent = `${whole(broke)} failed, ${whole(total.refused)} refused${statuses.length ? ` (${statuses.join(", ")})` : ""}, ${whole(total.fallbacks)} served by another model than first chosen.`;
}

function rows(id, made, columns) {
  const empty = [e("tr", {}, e("td", { colspan: columns, class: "empty" }, "Nothing yet"))];
  document.querySelector(`#${id} tbody`).replaceChildren(...(made.length ? made : empty));
}

function shares({ models, names, total }) {
  at("cache-lead").textContent = total.cached
    ? `${percent(total.cached / total.requests)} answered from the cache, ${whole(total.cached)} of ${whole(total.requests)}.`
    : "Nothing was answered from the cache.";
  rows("shares", models.map((one) => {
    const share = one.requests / total.requests;
    const bar = e("progress", { max: 1, value: share, "aria-hidden": "true", class: charts.hue(one.name, names.models).slice(2) });
    return e("tr", {},
      e("th", { scope: "row" }, one.name === "none" ? "no answer" : one.name),
      e("td", {}, whole(one.requests)),
      e("td", { class: "share" }, bar, percent(share)),
      e("td", {}, usd(one.cost_usd)),
      e("td", {}, usd(one.saved_usd)),
    );
  }), 5);
}

const lamp = (kind, name) => e("span", { class: "lamp" }, e("span", { class: `dot ${kind}` }), e("span", {}, name));

function upstreams({ upstreams: known }) {
  rows("upstreams", known.map((one) => {
    const well = 1 - one.failed / one.attempts;
    const outcomes = Object.entries(one.outcomes).filter(([name]) => name !== "ok");
    return e("tr", {},
      e("th", { scope: "row" }, lamp(well >= 0.95 ? "ok" : well >= 0.8 ? "warn" : "bad", one.name)),
      e("td", {}, whole(one.attempts)),
      e("td", {}, percent(well, 2)),
      e("td", {}, seconds(one.p50)),
      e("td", {}, seconds(one.p95)),
      e("td", { class: "words" }, outcomes.map(([name, count]) => `${name.replaceAll("_", " ")} ${whole(count)}`).join(", ") || "nothing"),
    );
  }), 6);
}

function deployments(known) {
  rows("deployments", known.map((one) => {
    const waits = one.cooldown_until !== null;
    const fails = one.requests > 0 && one.error_ratio >= 0.5;
    const kind = one.state === "open" ? "bad" : waits || fails || one.state === "half_open" ? "warn" : "ok";
    const until = (moment) => ` until ${clock(moment)}`;
    const words = {
      open: () => `left alone${until(one.open_until)}`,
      half_open: () => "on trial",
      closed: () => (waits ? `asked to wait${until(one.cooldown_until)}` : fails ? "failing" : "well"),
    }[one.state]();
    return e("tr", {},
      e("th", { scope: "row" }, lamp(kind, one.deployment)),
      e("td", { class: "words" }, words),
      e("td", {}, one.requests ? `${percent(one.error_ratio, 0)} of ${whole(one.requests)}` : "–"),
      e("td", {}, whole(one.in_flight)),
      e("td", {}, seconds(one.first_token_seconds)),
      e("td", {}, seconds(one.answer_seconds)),
    );
  }), 6);
}

async function drawCharts() {
  if (!told || !curve) return;
  at("tradeoff-lead").textContent = curve.requests
    ? `As the router predicted both for the last ${whole(curve.requests)} requests it chose on. A ring is one model alone, where it could have served them all.`
    : "No request with predictions of more than one candidate yet.";
  charts.overTime(told);
  charts.tradeoff(curve, told.names.models);
  await charts.paint();
}

// --- what people do -------------------------------------------------------------------------

at("filters").addEventListener("change", (event) => {
  if (event.target.id === "follow") refresh();
  else {
    toAddress();
    refresh({ anew: true });
  }
});
at("filters").addEventListener("submit", (event) => event.preventDefault());
at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(at("key").value.trim());
  at("key").value = "";
  refresh({ anew: true });
});
at("forget").addEventListener("click", () => {
  key.forget();
  location.reload();
});
at("more").addEventListener("click", () => decisions.older(wanted()).catch(complain));
for (const button of document.querySelectorAll("[data-export]")) {
  button.addEventListener("click", () => download(button.dataset.export, wanted()).catch(complain));
}
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));

function complain(error) {
  at("trouble").textContent = error.message;
  at("trouble").hidden = false;
}

// --- light and dark -------------------------------------------------------------------------

const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

function themed() {
  at("theme").textContent = isDark() ? "Light" : "Dark";
  drawCharts().catch(complain);
}

at("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  try {
    localStorage.setItem("pointsman-theme", document.documentElement.dataset.theme);
  } catch {
    // It holds for this page then.
  }
  themed();
});
system.addEventListener("change", themed);
themed();
fromAddress();
refresh({ anew: true });
