"""Write labels to disk chunk by chunk, in one process or on several machines."""
