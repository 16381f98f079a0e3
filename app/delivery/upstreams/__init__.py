"""Provider endpoints behind one seam; no exception of a client library leaves this room."""
