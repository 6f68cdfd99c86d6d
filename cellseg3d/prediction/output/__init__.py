"""Labels on disk, chunk by chunk: journal, stores, several machines."""
