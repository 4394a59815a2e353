"""What several commands share: text, figures, pictures and output files."""
