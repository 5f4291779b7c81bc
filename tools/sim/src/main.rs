//! palisade-sim

fn main() {}
