"""The built-in page: what is spent, what routing saves, whether quality holds, what is slow."""
