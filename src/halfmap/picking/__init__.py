"""Where the particles are in a micrograph, how sure that is, and what only looks like one."""
