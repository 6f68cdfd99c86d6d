"""Make, score and describe the weights that come with the package."""
