"""File formats of the field: how their files are written, and how their own libraries read them best."""
