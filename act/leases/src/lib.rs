//! The lease journal on disk: locked, appended, replayed, rebuilt.
