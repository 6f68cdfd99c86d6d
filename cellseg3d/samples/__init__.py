"""Training samples: loaders, samplers, crops, transforms, augmentation, MONAI IO."""
