"""The doors that OpenAI's clients know."""
