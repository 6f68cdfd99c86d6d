"""Write volumes, labels and pictures so that nothing is lost or replaced unasked."""
