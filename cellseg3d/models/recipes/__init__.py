"""Published networks: VGG-16, GoogLeNet, ConvLSTM and cascades."""
