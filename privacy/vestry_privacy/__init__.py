"""What keeps data in: disclosure rules, canonical bytes, and (later) DP, ledger and secure aggregation."""
