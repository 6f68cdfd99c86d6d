"""Options, bars and tables that several verbs share."""
