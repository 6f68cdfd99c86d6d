"""What is measured on validation volumes after training: halo, windows, weights."""
