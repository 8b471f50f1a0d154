//! Tests of the backend as a whole, on models made in Rust.
