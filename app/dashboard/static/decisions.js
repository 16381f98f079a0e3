// The last decisions; each opens to all that the ledger keeps of it.

import { json } from "./data.js";
import { element as e, moment, percent, score, seconds, usd, whole } from "./format.js";

const list = document.getElementById("decisions");
const more = document.getElementById("more");
const lead = document.getElementById("decisions-lead");
const PAGE = 25;
const well = (outcome) => ["ok", "client_gone", "hedged_away"].includes(outcome);
let shown = [];
const open = new Map();

/** The newest; a list that was lengthened stays so, and while one is open it stands still: what
 * somebody reads must not be pushed away by what comes. */
export async function refresh(wanted, { anew, signal }) {
  if (anew) open.clear();
  if (open.size) return;
  const limit = anew ? PAGE : Math.min(Math.max(shown.length, PAGE), 200);
  const { data } = await json("decisions", { ...wanted, limit }, signal);
  if (open.size) return;
  shown = data;
  draw();
  more.hidden = data.length < limit;
}

export async function older(wanted) {
  const last = shown.at(-1);
  const page = { ...wanted, limit: PAGE, before_us: last.at_us, before_id: last.id };
  const { data } = await json("decisions", page);
  shown = shown.concat(data);
  draw();
  more.hidden = data.length < PAGE;
}

function draw() {
  const focused = document.activeElement?.dataset?.request;
  say();
  list.replaceChildren(...shown.map(item));
  if (!shown.length) list.append(e("li", { class: "empty" }, "No request in this time range."));
  if (focused) list.querySelector(`[data-request="${CSS.escape(focused)}"]`)?.focus();
}

function say() {
  lead.textContent = open.size
    ? "The list stands still while one is open."
    : "Open one to see its candidates, neighbours and attempts.";
}

function item(row) {
  const state = well(row.outcome) ? "" : " bad";
  const button = e(
    "button",
    { type: "button", class: "decision", "aria-expanded": open.has(row.id), "data-request": row.id },
    e("span", { class: "when" }, moment(row.at_us)),
    e("span", { class: "who" }, e("b", {}, row.model ?? "no answer"), e("small", {}, row.route)),
    e("span", { class: `how${state}` }, well(row.outcome) ? row.decision : `${row.outcome} ${row.status}`),
    e("span", { class: "time" }, seconds(row.duration_seconds)),
    e("span", { class: "cost" }, row.cost_usd === null ? "unknown" : usd(row.cost_usd)),
  );
  const made = e("li", {}, button);
  button.addEventListener("click", () => toggle(row.id, made, button));
  if (open.has(row.id)) made.append(open.get(row.id));
  return made;
}

async function toggle(id, place, button) {
  if (open.has(id)) {
    open.get(id).remove();
    open.delete(id);
    button.setAttribute("aria-expanded", "false");
    say();
    return;
  }
  const panel = e("div", { class: "panel", "aria-live": "polite" }, "Loading …");
  open.set(id, panel);
  place.append(panel);
  button.setAttribute("aria-expanded", "true");
  say();
  try {
    panel.replaceChildren(...explained(await json(`decisions/${encodeURIComponent(id)}`, {})));
  } catch (error) {
    panel.replaceChildren(e("p", { class: "bad" }, error.message));
  }
}

function table(heads, rows) {
  const head = e("thead", {}, e("tr", {}, ...heads.map((text) => e("th", { scope: "col" }, text))));
  const body = e("tbody", {}, ...rows.map(({ kind, cells }) => e("tr", { class: kind }, ...cells.map((cell) => e("td", {}, cell)))));
  return e("div", { class: "scroll" }, e("table", {}, head, body));
}

const named = (name) => e("span", { class: "name" }, name);

function facts(pairs) {
  const told = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return e("dl", {}, ...told.map(([name, value]) => e("div", {}, e("dt", {}, name), e("dd", {}, value))));
}

function explained(row) {
  const served = row.candidates.find((one) => one.model === row.model);
  const unknown = row.cost_usd === null ? "unknown" : `${usd(row.cost_usd)}${row.cost_estimated ? " (estimated)" : ""}`;
  const parts = [
    e("p", { class: "why" }, e("b", {}, row.reason.replaceAll("_", " ")), row.explanation ? `: ${row.explanation}.` : ""),
    facts([
      ["Expected cost", served?.expected_cost_usd ? usd(served.expected_cost_usd) : null],
      ["True cost", unknown],
      ["At the baseline", row.baseline_cost_usd ? usd(row.baseline_cost_usd) : null],
      ["Saved", row.saved_usd === null ? null : usd(row.saved_usd)],
      ["Tokens", row.input_tokens === null ? null : `${whole(row.input_tokens)} in, ${whole(row.output_tokens ?? 0)} out`],
      ["Decided in", seconds(row.decide_seconds)],
      ["Decision", row.decision],
      ["Read", row.speed === "none" ? null : { text: "words alone", encoded: "encoded", cached: "vector remembered" }[row.speed]],
      ["First token", row.first_token_seconds === null ? null : seconds(row.first_token_seconds)],
      ["Overhead", row.overhead_seconds === null ? null : seconds(row.overhead_seconds)],
      ["Key", row.key_id],
      ["Tags", row.tags.join(", ")],
      ["Request", row.id],
    ]),
  ];
  if (row.candidates.length) {
    parts.push(e("h3", {}, "Candidates"), table(
      ["Model", "Predicted quality", "Interval", "Expected cost", ""],
      row.candidates.map((one) => ({
        kind: one.model === row.model ? "chosen" : one.eligible ? "" : "out",
        cells: [
          named(one.model), score(one.quality), interval(one),
          one.expected_cost_usd === null ? "unknown" : usd(one.expected_cost_usd),
          one.model === row.model ? "served" : one.eligible ? "" : "could not serve it",
        ],
      })),
    ));
  } else {
    parts.push(e("p", { class: "note" }, "Nothing was predicted for this request."));
  }
  if (row.neighbours.length) {
    const scored = row.neighbours.flatMap((one) => Object.keys(one.scores));
    const names = [...new Set([...row.candidates.map((one) => one.model), ...scored])];
    parts.push(
      e("h3", {}, "Neighbours' outcomes"),
      e("p", { class: "note" }, "The prompts nearest to this one that the route's router knows, and how well each model did on them."),
      table(
        ["Similarity", "Kind of task", ...names],
        row.neighbours.map((one) => ({
          kind: "",
          cells: [percent(one.similarity), one.task, ...names.map((name) => (one.scores[name] == null ? "–" : score(one.scores[name])))],
        })),
      ),
    );
  } else if (row.candidates.length) {
    parts.push(e("p", { class: "note", "data-no-neighbours": "" }, `No neighbours' outcomes: ${row.no_neighbours}`));
  }
  if (row.attempts.length) {
    parts.push(e("h3", {}, "Attempts"), table(
      ["Upstream", "Model", "Outcome", "Took", "Cost"],
      row.attempts.map((one) => ({
        kind: well(one.outcome) ? "" : "failed",
        cells: [
          named(one.upstream), named(one.model), one.status && one.status !== 200 ? `${one.outcome} (${one.status})` : one.outcome,
          seconds(one.seconds), one.cost_usd === null ? "unknown" : usd(one.cost_usd),
        ],
      })),
    ));
  }
  if (row.decision === "fallback" && row.attempts.every((one) => well(one.outcome))) {
    parts.push(e("p", { class: "note" }, "What was before it in the plan was not asked: its deployments were left alone, or had no room."));
  }
  if (row.prompt) parts.push(e("h3", {}, "Prompt"), e("pre", { tabindex: "0" }, row.prompt));
  return parts;
}

function interval(one) {
  const x = (value) => (Math.min(Math.max(value, 0), 1) * 100).toFixed(1);
  const svg = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const picture = svg("svg", { viewBox: "0 0 100 10", class: "interval", "aria-hidden": "true", preserveAspectRatio: "none" });
  picture.append(
    svg("rect", { x: 0, y: 4, width: 100, height: 2, class: "track" }),
    svg("rect", { x: x(one.quality_low), y: 3, width: Math.max(x(one.quality_high) - x(one.quality_low), 1), height: 4, class: "between" }),
    svg("rect", { x: x(one.quality) - 1, y: 0, width: 2, height: 10, class: "at" }),
  );
  const text = `${score(one.quality_low)} to ${score(one.quality_high)}`;
  return e("span", { class: "between-words", title: percent(one.quality) }, picture, text);
}
