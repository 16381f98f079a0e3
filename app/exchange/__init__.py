"""The nouns every room speaks of: a request, a reply, usage, money and the record of it all."""
