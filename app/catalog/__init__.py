"""The models on offer: what each can do, what it costs and where it lives."""
