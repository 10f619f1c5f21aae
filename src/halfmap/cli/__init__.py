"""The command line: commands made from the step registry, and a few verbs for projects."""
