"""Write a bundle as a package of bioimage.io, the zoo of models for microscopy."""
