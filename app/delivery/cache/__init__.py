"""Answers given before, kept to be given again: exact and semantic, in memory and over Redis."""
