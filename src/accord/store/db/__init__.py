"""The database: tables, the hash chain, the one writer."""
