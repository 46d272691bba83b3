"""What products cost on each engine, and what surrounds the engines; entries for the ledger."""
