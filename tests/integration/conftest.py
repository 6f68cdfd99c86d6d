"""MONAI imported once, with its warnings about torch unheard."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ignite.engine  # noqa: F401
    import monai.bundle
    import monai.engines  # noqa: F401
