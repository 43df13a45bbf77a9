"""The job creator: from a PyTorch script to a job on the chain."""
