"""How the services start, answer and stop: the I/O worker, the GPU service of two nodes, and what supervises them."""
