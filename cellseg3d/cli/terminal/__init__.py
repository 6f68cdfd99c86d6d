"""Options, progress bars and tables of the command line."""
