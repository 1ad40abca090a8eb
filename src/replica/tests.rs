//! Replication by itself: what is asked of whom, and when.
