"""The only door for people: arguments, printing, exit codes. Nothing else in the project does these."""
