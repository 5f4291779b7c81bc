//! palisade-preflight
