"""One self-contained HTML page a job, from tables, curves and images."""
