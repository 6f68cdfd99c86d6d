"""A training plan from the data and the machine."""
