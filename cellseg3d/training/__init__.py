"""Training and validation on Ignite: session, step, schedule, checkpoints."""
