//! palisade-e2e

fn main() {}
