"""The command line: arguments, printing, exit codes. Nothing else in the project does these."""
