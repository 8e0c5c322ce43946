"""How arrays work: vectors, an n-d array engine, matrix multiplication."""
