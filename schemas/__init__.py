"""Arrow schemas of every table that the pipelines exchange, and `conform`, which holds a table to one."""
