//! palisade-bench

fn main() {}
