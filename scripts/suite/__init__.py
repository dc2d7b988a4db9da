"""The code of `scripts/test`: it reads the arguments, runs the checks and runs pytest."""
