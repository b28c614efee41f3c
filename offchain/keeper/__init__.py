"""The keeper: read a vault, decide, plan, simulate, submit, confirm; every step journalled before it is taken."""
