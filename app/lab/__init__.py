"""Offline work: reading outcomes, training, measuring. Never imported when serving."""
