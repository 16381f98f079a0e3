// The doors of the data, with the key where one is asked for.

const KEPT = "pointsman-key";

export class Refused extends Error {}

export const key = {
  get: () => sessionStorage.getItem(KEPT),
  set: (text) => sessionStorage.setItem(KEPT, text),
  forget: () => sessionStorage.removeItem(KEPT),
};

async function ask(path, wanted, signal) {
  const held = key.get();
  const response = await fetch(`/dashboard/data/${path}?${new URLSearchParams(wanted)}`, {
    headers: held ? { Authorization: `Bearer ${held}` } : {},
    signal,
    cache: "no-store",
    credentials: "omit",
  });
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  const message = told?.error?.message ?? `The gateway answered ${response.status}.`;
  if (response.status === 401 || told?.error?.code === "caller_out_of_scope") {
    throw new Refused(message);
  }
  throw new Error(message);
}

export const json = async (path, wanted, signal) => (await ask(path, wanted, signal)).json();

export async function download(what, wanted) {
  const response = await ask(`export/${what}.csv`, wanted);
  const address = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = `pointsman-${what}-${wanted.range}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
