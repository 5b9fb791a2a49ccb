//! A connection router for Diesel services on PostgreSQL with a primary and streaming read replicas.

mod pool;
