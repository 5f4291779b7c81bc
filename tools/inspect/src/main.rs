//! palisade-inspect

fn main() {}
