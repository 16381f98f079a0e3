"""The written form of a configuration: its schema, and reading it with errors that name lines."""
