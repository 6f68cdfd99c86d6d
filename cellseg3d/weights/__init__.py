"""The weights that come with the package: how they are made, scored and described."""
