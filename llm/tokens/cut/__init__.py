"""How WordPiece and Unigram cut a word into pieces."""
