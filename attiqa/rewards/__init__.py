"""Rewards: the contract, the guarded reward, and adapters for other people's loops."""
