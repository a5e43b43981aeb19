"""Secure aggregation: the server learns the sum of the sites' weighted updates and nothing else."""
