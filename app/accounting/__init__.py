"""What requests cost, and who may spend."""
