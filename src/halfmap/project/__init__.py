"""Projects: folders of jobs, where files come from, the index, and the chain from movies to a map."""
