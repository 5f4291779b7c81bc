//! palisade-daemon

fn main() {}
