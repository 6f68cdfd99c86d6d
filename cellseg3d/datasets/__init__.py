"""Cases, datalists, folds, labels and intensities of labelled data, without torch."""
