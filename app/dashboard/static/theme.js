// Before anything is drawn, so that a dark page does not flash.
try {
  const kept = localStorage.getItem("pointsman-theme");
  if (kept) document.documentElement.dataset.theme = kept;
} catch {
  // Storage may be forbidden; the system's choice holds then.
}
