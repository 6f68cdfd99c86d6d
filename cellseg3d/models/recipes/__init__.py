"""Networks of known systems: VGG-16, GoogLeNet, ConvLSTM, cascades."""
