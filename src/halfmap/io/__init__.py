"""Files and records: the only place where foreign formats and conventions are translated."""
