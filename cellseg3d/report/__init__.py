"""Write one HTML page about a run or a benchmark, readable without a network."""
