//! Pools, leases and the journal's lines: which address goes to whom.
