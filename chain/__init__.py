"""Facts of the chain: headers, blocks, transactions, receipts, codecs, crypto, store.

Nothing here executes or decides. Every decoder is bounded and strict: bytes from a
peer either become a value whose encoding is those very bytes, or raise an error of
`chain.errors`.
"""
