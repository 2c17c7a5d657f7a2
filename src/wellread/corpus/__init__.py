"""Raw files to clean documents."""
