"""Train and validate networks with MONAI's and Ignite's engines."""
