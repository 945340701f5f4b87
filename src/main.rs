//! callgate.
fn main() {}
