"""Conversations: which one a request belongs to, and staying with the model that knows it."""
