"""The book: a static site made from the notes, and notebooks made from the days."""
