"""The revisions themselves, `rNNNN_what.py`."""
