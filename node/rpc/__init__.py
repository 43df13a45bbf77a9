"""JSON-RPC over HTTP, in the dialect that web3.py, ethers, viem and cast speak."""
