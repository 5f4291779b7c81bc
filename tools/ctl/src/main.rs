//! palisade-ctl

fn main() {}
