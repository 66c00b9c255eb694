"""What compare.py is made of: the table of cases, an engine a file, a worker process, rounds, and reports."""
