//! What `docs/` has for Prometheus and Grafana, held against the programs themselves.

#![allow(unreachable_pub, reason = "a program has no outside")]

mod programs;
mod rules;
