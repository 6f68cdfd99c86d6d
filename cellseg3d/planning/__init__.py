"""Choose the settings of a training from the data and the machine."""
