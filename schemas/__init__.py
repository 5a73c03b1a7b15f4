"""Arrow schemas of every table that the pipelines exchange, and `conform`, which checks a table against one."""
