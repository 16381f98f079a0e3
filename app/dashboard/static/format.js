// Figures as people read them.

const count = new Intl.NumberFormat("en");

export const whole = (number) => count.format(number);

/** Dollars: cents where there are many, three figures where there are few. */
export function usd(amount) {
  if (amount === null || amount === undefined) return "unknown";
  const value = Number(amount);
  const size = Math.abs(value);
  if (size === 0) return "$0";
  const sign = value < 0 ? "−" : "";
  if (size >= 1) {
    const digits = size >= 10_000 ? 0 : 2;
    const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    return `${sign}$${size.toLocaleString("en", options)}`;
  }
  const places = Math.min(2 - Math.floor(Math.log10(size)), 9);
  return `${sign}$${size.toFixed(places).replace(/(\.\d{2,}?)0+$/, "$1")}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.001) return `${(value * 1e6).toFixed(0)} µs`;
  if (value < 0.01) return `${(value * 1e3).toFixed(1)} ms`;
  if (value < 1) return `${(value * 1e3).toFixed(0)} ms`;
  return `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

export function percent(share, digits = 1) {
  if (share === null || !Number.isFinite(share)) return "–";
  const text = (share * 100).toFixed(digits);
  return `${digits ? text.replace(/\.0+$/, "") : text} %`;
}

export const score = (value) =>
  value === null || value === undefined ? "–" : value.toFixed(3);

export const clock = (time) => new Date(time).toLocaleTimeString("en", { hour12: false });

export function moment(microseconds) {
  const at = new Date(microseconds / 1000);
  const today = at.toDateString() === new Date().toDateString();
  const day = today ? "" : `${at.toLocaleDateString("en", { month: "short", day: "numeric" })} `;
  return day + clock(at);
}

/** An element; children are text or elements, never markup: names come from requests. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null).map((c) => (c instanceof Node ? c : String(c))));
  return made;
}
