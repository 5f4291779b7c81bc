//! palisade-xtask

fn main() {}
