"""Write packages of bioimage.io, the zoo of models for microscopy, and read them."""
