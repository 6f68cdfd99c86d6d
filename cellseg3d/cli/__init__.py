"""The command line: each verb parses its options and calls one function."""
