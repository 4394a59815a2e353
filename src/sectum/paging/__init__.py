"""The page-replacement model: pages and ranges in, counts out."""
