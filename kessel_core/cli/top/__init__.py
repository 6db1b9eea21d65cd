"""`kessel top`: its command, its keys, its drawing, what it does to queues and jobs, and the terminal."""
