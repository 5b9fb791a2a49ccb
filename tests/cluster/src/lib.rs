//! Real PostgreSQL clusters for tests, examples and benches.
