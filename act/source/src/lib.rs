//! Cluster snapshots from a watched directory of manifests.
