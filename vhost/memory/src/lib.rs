//! palisade-memory
