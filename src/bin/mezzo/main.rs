//! The `mezzo` command: a thin user of the library.
fn main() {}
