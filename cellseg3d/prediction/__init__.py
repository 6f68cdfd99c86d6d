"""Networks over volumes of any size: lattice, windows, slices, fusion."""
