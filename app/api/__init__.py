"""The doors: what is reachable over HTTP."""
