"""Carrying a plan out: attempts at upstreams, moving on when one fails, relaying streams."""
