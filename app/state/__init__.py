"""What requests share while they run: counters of money, rates and slots, here or in Redis."""
